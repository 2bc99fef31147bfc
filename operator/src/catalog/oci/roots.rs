//! Root certificates for registries: the system's, or those in `SSL_CERT_FILE` and `SSL_CERT_DIR`. Without any, as in
//! the operator's image, Mozilla's root certificates, which are compiled in.

use std::env;

use rustls_pki_types::CertificateDer;
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

/// Environment variables that override the system's root certificates.
const OVERRIDES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Returns the compiled-in root certificates if they are needed, else `None`.
pub(super) fn bundled() -> Option<&'static [CertificateDer<'static>]> {
    let overridden = OVERRIDES.iter().any(|name| env::var_os(name).is_some());
    fallback_roots(overridden, || rustls_native_certs::load_native_certs().certs.len())
}

/// An override is exclusive, even if its files can't be read.
fn fallback_roots(overridden: bool, system: impl FnOnce() -> usize) -> Option<&'static [CertificateDer<'static>]> {
    (!overridden && system() == 0).then_some(TLS_SERVER_ROOT_CERTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_compiled_in_roots_only_without_others() {
        assert_eq!(fallback_roots(true, || 0), None);
        assert_eq!(fallback_roots(false, || 1), None);
        assert!(fallback_roots(false, || 0).is_some_and(|all| all.len() > 100));
    }

    #[test]
    fn compiled_in_roots_are_valid() {
        let (usable, ignored) =
            rustls::RootCertStore::empty().add_parsable_certificates(TLS_SERVER_ROOT_CERTS.iter().cloned());
        assert_eq!((usable, ignored), (TLS_SERVER_ROOT_CERTS.len(), 0));
    }
}
