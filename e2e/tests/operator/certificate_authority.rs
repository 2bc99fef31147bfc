//! The expiry of a CA that the user provides to istiod.

use std::collections::BTreeMap;

use jiff::{Timestamp, ToSpan as _, Zoned, tz::TimeZone};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};
use meshwright_api::CaSource;
use meshwright_e2e::mesh::{Mesh, NAME, demo_spec};
use meshwright_e2e::{LabOptions, TestResult, run, wait};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};

fn authority(name: &str, end: &Zoned) -> TestResult<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_after = date_time_ymd(end.year().into(), end.month().try_into()?, end.day().try_into()?);
    Ok(params)
}

/// The files of a CA whose intermediate certificate expires on a day, long before its root.
fn plugged_in_ca(end: &Zoned) -> TestResult<BTreeMap<String, ByteString>> {
    let (root_key, key) = (KeyPair::generate()?, KeyPair::generate()?);
    let root = authority("Root CA", &end.checked_add(9.years())?)?;
    let root_pem = root.self_signed(&root_key)?.pem();
    let intermediate = authority("Intermediate CA", end)?.signed_by(&key, &Issuer::new(root, root_key))?.pem();
    let files = [
        ("ca-cert.pem", intermediate.clone()),
        ("ca-key.pem", key.serialize_pem()),
        ("cert-chain.pem", format!("{intermediate}{root_pem}")),
        ("root-cert.pem", root_pem),
    ];
    Ok(files.map(|(name, pem)| (name.to_owned(), ByteString(pem.into_bytes()))).into())
}

#[test]
fn reports_intermediate_certificate_that_expires_first() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let end = Timestamp::now().to_zoned(TimeZone::UTC).checked_add(40.days())?;
        let secret = Secret {
            metadata: ObjectMeta { name: Some("cacerts".into()), ..ObjectMeta::default() },
            data: Some(plugged_in_ca(&end)?),
            ..Secret::default()
        };
        let secrets: Api<Secret> = Api::namespaced(lab.client(), "istio-system");
        secrets.create(&PostParams::default(), &secret).await?;
        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_ready(NAME).await?;
        let ca = wait::until(wait::TIMEOUT, "status to report the intermediate certificate", async || {
            let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let ca = found.status.unwrap_or_default().ca.ok_or("no CA in status")?;
            if ca.intermediate.is_some() { Ok(ca) } else { Err(format!("{ca:?}")) }
        })
        .await?;
        assert_eq!(ca.source, CaSource::External);
        let subject = ca.intermediate.unwrap_or_default();
        assert!(subject.contains("CN=Intermediate CA"), "{subject}");
        let expiry = ca.not_after.ok_or("no expiry")?.0.to_zoned(TimeZone::UTC).date();
        assert_eq!(expiry, end.date());
        Ok(())
    });
}
