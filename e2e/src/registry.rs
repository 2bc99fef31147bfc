//! A container registry that holds Istio's charts as `helm push` leaves them, on a network of the test's own.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::process::Daemon;
use crate::wait::PATIENCE;
use crate::workdir::WorkDir;
use crate::{LabError, Programs};

/// Where it listens. Each test has a network of its own, so that all can have the same port.
pub const ADDRESS: &str = "127.0.0.1:5000";
/// Where Pods find it.
pub const ADDRESS_FOR_PODS: &str = "10.98.0.1:5000";
/// The host of [`ADDRESS_FOR_PODS`].
pub const HOST_FOR_PODS: &str = "10.98.0.1";
/// On all addresses of the test's network.
const LISTENS: &str = ":5000";
/// Where the charts are.
pub const CHARTS: &str = "oci://127.0.0.1:5000/istio/charts";
/// The name that its certificate has besides the address.
pub const NAME: &str = "registry.lab.example";
/// Who may use a registry that asks who it is.
pub const USER: &str = "lab";
/// The password of [`USER`].
pub const PASSWORD: &str = "s3cret";
/// That password as `htpasswd` keeps it; cheap to compare, since it guards nothing.
const HTPASSWD: &str = "lab:$2b$04$abcdefghijklmnopqrstuuLZYjhNQAOdpbzt4WxWlUHjv1wsyH5DG\n";

/// The charts that a release has.
const ALL: [&str; 5] = ["base", "istiod", "gateway", "cni", "ztunnel"];

/// What a registry asks of those who come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Nothing, by plain HTTP.
    Open,
    /// User and password, by plain HTTP.
    Password,
    /// Nothing, by TLS.
    Tls,
}

/// A registry that runs; it ends with the test.
#[derive(Debug)]
pub struct Registry {
    daemon: Daemon,
    dir: WorkDir,
    programs: Programs,
    door: Door,
}

impl Registry {
    /// Starts one, empty, and waits until it answers.
    pub fn start(door: Door) -> Result<Self, LabError> {
        let programs = Programs::find()?;
        let dir = WorkDir::create()?;
        dir.write("registry.yaml", &config(door, &dir)?.to_string())?;
        let daemon = serve(&programs, &dir)?;
        Ok(Self { daemon, dir, programs, door })
    }

    /// Starts it again, with what it holds, after [`Self::stop`].
    pub fn start_again(&mut self) -> Result<(), LabError> {
        self.daemon = serve(&self.programs, &self.dir)?;
        Ok(())
    }

    /// Packs the charts of a release of the catalog and pushes them.
    pub fn push_release(&self, catalog: &Path, version: &str) -> Result<(), LabError> {
        self.push_release_as(catalog, version, version)
    }

    /// The same under another version; hub and tag of the images stay.
    pub fn push_release_as(&self, catalog: &Path, version: &str, name: &str) -> Result<(), LabError> {
        let charts = catalog.join(version).join("charts");
        ALL.iter().try_for_each(|chart| self.push_chart_as(&charts.join(chart), Some(name)))
    }

    /// Packs one chart and pushes it under its own version.
    pub fn push_chart(&self, folder: &Path) -> Result<(), LabError> {
        self.push_chart_as(folder, None)
    }

    /// Packs one chart and pushes it, under another version than its own if there is one.
    pub fn push_chart_as(&self, folder: &Path, version: Option<&str>) -> Result<(), LabError> {
        let packed = tempdir_in(&self.dir)?;
        let (folder, destination) = (folder.display().to_string(), packed.display().to_string());
        let version = version.map(|version| ["--version", version]);
        let args = ["package", folder.as_str(), "--destination", destination.as_str()];
        self.helm(&[&args[..], version.as_ref().map_or(&[], |version| &version[..])].concat())?;
        for entry in std::fs::read_dir(&packed).map_err(LabError::file(&packed))?.flatten() {
            let archive = entry.path().display().to_string();
            let mut args = vec!["push", archive.as_str(), CHARTS];
            match self.door {
                Door::Open => args.push("--plain-http"),
                Door::Password => args.extend(["--plain-http", "--username", USER, "--password", PASSWORD]),
                Door::Tls => args.push("--insecure-skip-tls-verify"),
            }
            self.helm(&args)?;
        }
        Ok(())
    }

    /// The authority that signed its certificate, in PEM.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.dir.path().join("registry-ca.crt")
    }

    /// The files in which it keeps what it was given: `docker/registry/v2/blobs/sha256/...`.
    #[must_use]
    pub fn storage(&self) -> PathBuf {
        self.dir.path().join("storage")
    }

    /// The file of a blob, by its digest.
    #[must_use]
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let start: String = hex.chars().take(2).collect();
        self.storage().join("docker/registry/v2/blobs/sha256").join(start).join(hex).join("data")
    }

    /// The file of the archive that a chart's tag means.
    pub fn archive(&self, chart: &str, tag: &str) -> Result<PathBuf, LabError> {
        let read = |path: PathBuf| std::fs::read_to_string(&path).map_err(LabError::file(&path));
        let tags =
            self.storage().join("docker/registry/v2/repositories/istio/charts").join(chart).join("_manifests/tags");
        let manifest = read(self.blob(read(tags.join(tag).join("current/link"))?.trim()))?;
        let manifest: Value = serde_json::from_str(&manifest).unwrap_or_default();
        let digest = manifest.pointer("/layers/0/digest").and_then(Value::as_str).unwrap_or_default();
        Ok(self.blob(digest))
    }

    /// Ends it; what it holds stays until it is dropped.
    pub fn stop(&mut self) {
        self.daemon.stop();
    }

    fn helm(&self, args: &[&str]) -> Result<(), LabError> {
        let failed = |detail: String| LabError::Manifest { origin: format!("helm {}", args.join(" ")), detail };
        let mut command = Command::new(self.programs.path("helm"));
        command.args(args).env_clear().env("HOME", self.dir.path()).current_dir(self.dir.path());
        let output = command.output().map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            Ok(())
        } else {
            Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
        }
    }
}

/// A folder of its own below the registry's, which goes with it.
fn tempdir_in(dir: &WorkDir) -> Result<PathBuf, LabError> {
    let path = dir.path().join(dir.marker());
    std::fs::create_dir_all(&path).map_err(LabError::file(&path))?;
    Ok(path)
}

/// JSON, which is YAML.
fn config(door: Door, dir: &WorkDir) -> Result<Value, LabError> {
    let mut config = json!({
        "version": "0.1",
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": dir.path().join("storage")}},
        "http": {"addr": LISTENS},
    });
    let fields = match door {
        Door::Open => json!({}),
        Door::Password => {
            json!({"auth": {"htpasswd": {"realm": "lab", "path": dir.write("htpasswd", HTPASSWD)?}}})
        }
        Door::Tls => {
            let (certificate, key) = certificate(dir)?;
            json!({"http": {"addr": LISTENS, "tls": {"certificate": certificate, "key": key}}})
        }
    };
    if let (Some(config), Value::Object(fields)) = (config.as_object_mut(), fields) {
        config.extend(fields);
    }
    Ok(config)
}

fn certificate(dir: &WorkDir) -> Result<(PathBuf, PathBuf), LabError> {
    let failed = |source| LabError::Certificates { source };
    let mut authority = CertificateParams::new(Vec::new()).map_err(failed)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().map_err(failed)?;
    dir.write("registry-ca.crt", &authority.self_signed(&authority_key).map_err(failed)?.pem())?;
    let names = vec!["127.0.0.1".to_owned(), NAME.to_owned()];
    let key = KeyPair::generate().map_err(failed)?;
    let params = CertificateParams::new(names).map_err(failed)?;
    let pem = params.signed_by(&key, &Issuer::new(authority, authority_key)).map_err(failed)?.pem();
    Ok((dir.write("registry.crt", &pem)?, dir.write("registry.key", &key.serialize_pem())?))
}

fn serve(programs: &Programs, dir: &WorkDir) -> Result<Daemon, LabError> {
    let args = ["serve".to_owned(), dir.path().join("registry.yaml").display().to_string()];
    let mut daemon = Daemon::start("registry", &programs.path("registry"), &args, dir.path(), dir.log("registry"))?;
    answers(&mut daemon)?;
    Ok(daemon)
}

fn answers(daemon: &mut Daemon) -> Result<(), LabError> {
    let start = Instant::now();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 5000));
    loop {
        let refused = match TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => error.to_string(),
            Err(error) => format!("{error:?}"),
        };
        let ended = daemon.ended();
        if ended.is_some() || start.elapsed() > PATIENCE {
            let detail = ended.map_or(refused, |status| status.to_string());
            let (after, log) = (start.elapsed(), daemon.log_tail());
            return Err(LabError::NotReady { program: "registry", after, detail, log });
        }
        // Between two looks, of which the deadline above ends the last.
        std::thread::sleep(Duration::from_millis(20));
    }
}
