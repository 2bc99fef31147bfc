//! Certificates and keys of the API server, created for each lab.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::workdir::WorkDir;
use crate::{LabError, net};

/// Paths of the certificate and key files of the control plane.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) authority: PathBuf,
    pub(crate) server: PathBuf,
    pub(crate) server_key: PathBuf,
    pub(crate) service_account_key: PathBuf,
    pub(crate) service_account_public: PathBuf,
}

impl Certificates {
    /// Creates all files in the lab's directory.
    pub(crate) fn create(dir: &WorkDir) -> Result<Self, LabError> {
        let failed = |source| LabError::Certificates { source };
        let mut authority = CertificateParams::new(Vec::new()).map_err(failed)?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        authority.distinguished_name.push(DnType::CommonName, "meshwright lab");
        let authority_key = KeyPair::generate().map_err(failed)?;
        let authority_pem = authority.self_signed(&authority_key).map_err(failed)?.pem();

        let names = ["127.0.0.1", &net::SERVER.to_string(), "10.96.0.1", "localhost", "kubernetes.default.svc"];
        let server = CertificateParams::new(names.map(str::to_owned)).map_err(failed)?;
        let server_key = KeyPair::generate().map_err(failed)?;
        let issuer = Issuer::new(authority, authority_key);
        let server_pem = server.signed_by(&server_key, &issuer).map_err(failed)?.pem();

        let accounts = KeyPair::generate().map_err(failed)?;
        Ok(Self {
            authority: dir.write("ca.crt", &authority_pem)?,
            server: dir.write("server.crt", &server_pem)?,
            server_key: dir.write("server.key", &server_key.serialize_pem())?,
            service_account_key: dir.write("service-accounts.key", &accounts.serialize_pem())?,
            service_account_public: dir.write("service-accounts.pub", &accounts.public_key_pem())?,
        })
    }
}
