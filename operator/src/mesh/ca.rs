//! The mesh's certificate authority, judged by the root certificate that istiod distributes to workloads, and by the
//! intermediate certificates of a CA that the user provides.

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
    let not_after = expiry(&certificate);
    let certificate = certificate.tbs_certificate();
    let is_istiods = certificate.subject() == certificate.issuer() && is_istiod_subject(certificate.subject());
    let source = if is_istiods { CaSource::SelfSigned } else { CaSource::External };
    Some(CaStatus { source, not_after: not_after.map(Time), intermediate: None })
}

/// Completes the status with the intermediate certificate in these PEM texts that expires first, if the root
/// certificate expires later.
#[must_use]
pub fn with_intermediates(root: CaStatus, chains: &[String]) -> CaStatus {
    let encoded = chains.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem.as_bytes()));
    let intermediates = encoded.filter_map(|certificate| intermediate(&certificate.ok()?));
    match intermediates.min() {
        Some((end, subject)) if root.not_after.as_ref().is_none_or(|root| end < root.0) => {
            CaStatus { not_after: Some(Time(end)), intermediate: Some(subject), ..root }
        }
        _ => root,
    }
}

/// Expiry and subject of a certificate that another one has signed.
fn intermediate(encoded: &CertificateDer<'_>) -> Option<(Timestamp, String)> {
    let certificate = Certificate::from_der(encoded.as_ref()).ok()?;
    let end = expiry(&certificate)?;
    let certificate = certificate.tbs_certificate();
    (certificate.subject() != certificate.issuer()).then(|| (end, certificate.subject().to_string()))
}

fn expiry(certificate: &Certificate) -> Option<Timestamp> {
    let end = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    i64::try_from(end.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok())
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

    /// A root that expires in 2036, and the PEM text of an intermediate of this year with its chain.
    fn chain(year: i32) -> (CaStatus, String) {
        let root = [(DnType::OrganizationName, "Example"), (DnType::CommonName, "Root CA")];
        let root_key = KeyPair::generate().unwrap();
        let root_pem = params(&root).self_signed(&root_key).unwrap().pem();
        let mut below = params(&[(DnType::OrganizationName, "Example"), (DnType::CommonName, "Intermediate CA")]);
        below.not_after = date_time_ymd(year, 1, 2);
        let issuer = Issuer::new(params(&root), root_key);
        let pem = below.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().pem();
        (parse_status(&root_pem).unwrap(), format!("{pem}{root_pem}"))
    }

    #[test]
    fn reports_intermediate_that_expires_first() {
        let (root, long) = chain(2030);
        let (_, short) = chain(2028);
        let status = with_intermediates(root, &[long, short]);
        assert_eq!(status.source, CaSource::External);
        assert_eq!(status.not_after.unwrap().0.to_string(), "2028-01-02T00:00:00Z");
        assert_eq!(status.intermediate.as_deref(), Some("CN=Intermediate CA,O=Example"));
    }

    #[test]
    fn reports_root_that_expires_first() {
        let (root, chain) = chain(2040);
        assert_eq!(with_intermediates(root.clone(), &[chain]), root);
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
        assert_eq!(with_intermediates(root.clone(), &[broken, String::new()]), root);
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
