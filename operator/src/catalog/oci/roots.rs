//! Which authorities a registry's certificate may be signed by: the system's, or those that `SSL_CERT_FILE` and
//! `SSL_CERT_DIR` name. Where there are none of either, as in the operator's image, Mozilla's, which come with the program.

use std::env;

use rustls_pki_types::CertificateDer;
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

/// What names authorities in place of the system's.
const NAMED_BY: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The authorities that take the place of the system's; `None` where the system's count.
pub(super) fn bundled() -> Option<&'static [CertificateDer<'static>]> {
    let named = NAMED_BY.iter().any(|name| env::var_os(name).is_some());
    in_place_of(named, || rustls_native_certs::load_native_certs().certs.len())
}

/// Somebody who names authorities means these and no others, even if they can't be read.
fn in_place_of(named: bool, system: impl FnOnce() -> usize) -> Option<&'static [CertificateDer<'static>]> {
    (!named && system() == 0).then_some(TLS_SERVER_ROOT_CERTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mozillas_authorities_are_believed_only_where_there_are_no_others() {
        assert_eq!(in_place_of(true, || 0), None);
        assert_eq!(in_place_of(false, || 1), None);
        assert!(in_place_of(false, || 0).is_some_and(|all| all.len() > 100));
    }

    #[test]
    fn each_of_mozillas_authorities_can_be_used() {
        let (usable, ignored) =
            rustls::RootCertStore::empty().add_parsable_certificates(TLS_SERVER_ROOT_CERTS.iter().cloned());
        assert_eq!((usable, ignored), (TLS_SERVER_ROOT_CERTS.len(), 0));
    }
}
