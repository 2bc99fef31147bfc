//! The mesh's certificate authority, judged by the root certificate that istiod distributes to workloads.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use meshwright_api::{CaSource, CaStatus};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::name::Name;

/// The attribute O (organization) of an X.509 name.
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");

/// Source and expiry of the first certificate in a PEM text. `None` if no certificate can be parsed.
#[must_use]
pub fn parse_status(pem: &str) -> Option<CaStatus> {
    let encoded = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let certificate = Certificate::from_der(encoded.as_ref()).ok()?;
    let certificate = certificate.tbs_certificate();
    let end = certificate.validity().not_after.to_unix_duration();
    let not_after = i64::try_from(end.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let is_istiods = certificate.subject() == certificate.issuer() && is_istiod_subject(certificate.subject());
    let source = if is_istiods { CaSource::SelfSigned } else { CaSource::External };
    Some(CaStatus { source, not_after: not_after.map(Time) })
}

/// A root certificate that istiod generated has the trust domain as its organization and no other attribute.
fn is_istiod_subject(subject: &Name) -> bool {
    let mut attributes = subject.iter();
    matches!((attributes.next(), attributes.next()), (Some(only), None) if only.oid == ORGANIZATION)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, Issuer, KeyPair, date_time_ymd};

    use super::*;

    fn params(name: &[(DnType, &str)]) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (attribute, value) in name {
            params.distinguished_name.push(attribute.clone(), *value);
        }
        params.not_before = date_time_ymd(2026, 11, 1);
        params.not_after = date_time_ymd(2036, 10, 29);
        params
    }

    fn self_signed(name: &[(DnType, &str)]) -> String {
        params(name).self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn source(pem: &str) -> CaSource {
        parse_status(pem).unwrap().source
    }

    #[test]
    fn root_with_organization_only_is_istiods() {
        let status = parse_status(&self_signed(&[(DnType::OrganizationName, "cluster.local")])).unwrap();
        assert_eq!(status.source, CaSource::SelfSigned);
        assert_eq!(status.not_after.unwrap().0.to_string(), "2036-10-29T00:00:00Z");
    }

    #[test]
    fn root_with_common_name_is_external() {
        let name = [(DnType::OrganizationName, "Example"), (DnType::CommonName, "Root CA")];
        assert_eq!(source(&self_signed(&name)), CaSource::External);
        assert_eq!(source(&self_signed(&[(DnType::CommonName, "cluster.local")])), CaSource::External);
        assert_eq!(source(&self_signed(&[])), CaSource::External);
    }

    #[test]
    fn certificate_signed_by_another_is_external() {
        let (key, above) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let issuer = Issuer::new(params(&[(DnType::OrganizationName, "Example")]), above);
        let certificate = params(&[(DnType::OrganizationName, "cluster.local")]).signed_by(&key, &issuer).unwrap();
        assert_eq!(source(&certificate.pem()), CaSource::External);
    }

    #[test]
    fn reads_first_certificate_of_bundle() {
        let first = self_signed(&[(DnType::OrganizationName, "cluster.local")]);
        let second = self_signed(&[(DnType::CommonName, "Root CA")]);
        assert_eq!(source(&format!("Certificate:\n  Data: ...\n{first}{second}")), CaSource::SelfSigned);
        assert_eq!(source(&format!("{second}{first}")), CaSource::External);
    }

    #[test]
    fn ignores_text_without_certificate() {
        let key = KeyPair::generate().unwrap().serialize_pem();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for text in ["", "hello", key.as_str(), broken] {
            assert_eq!(parse_status(text), None, "{text}");
        }
    }
}
