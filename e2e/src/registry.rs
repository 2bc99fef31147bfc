//! An OCI registry in the test's network namespace, to which helm pushes Istio's charts.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::process::Daemon;
use crate::wait::TIMEOUT;
use crate::workdir::WorkDir;
use crate::{LabError, Programs};

/// Address of the registry. Each test has its own network namespace, so all can use the same port.
pub const ADDRESS: &str = "127.0.0.1:5000";
/// Address of the registry for Pods.
pub const ADDRESS_FOR_PODS: &str = "10.98.0.1:5000";
/// Host of [`ADDRESS_FOR_PODS`].
pub const HOST_FOR_PODS: &str = "10.98.0.1";
/// Listens on all addresses of the network namespace.
const LISTEN_ADDRESS: &str = ":5000";
/// Repository of the charts.
pub const CHARTS: &str = "oci://127.0.0.1:5000/istio/charts";
/// DNS name in the registry's certificate.
pub const NAME: &str = "registry.lab.example";
/// User of a registry with basic authentication.
pub const USER: &str = "lab";
/// Password of [`USER`].
pub const PASSWORD: &str = "s3cret";
/// [`USER`] and [`PASSWORD`] in htpasswd format, with the lowest bcrypt cost.
const HTPASSWD: &str = "lab:$2b$04$abcdefghijklmnopqrstuuLZYjhNQAOdpbzt4WxWlUHjv1wsyH5DG\n";

/// Charts of a release.
const CHART_NAMES: [&str; 5] = ["base", "istiod", "gateway", "cni", "ztunnel"];

/// Authentication and transport of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryAccess {
    /// Anonymous access over plain HTTP.
    Anonymous,
    /// Basic authentication over plain HTTP.
    BasicAuth,
    /// Anonymous access over TLS.
    Tls,
}

/// A running registry; it ends with the test.
#[derive(Debug)]
pub struct Registry {
    daemon: Daemon,
    dir: WorkDir,
    programs: Programs,
    access: RegistryAccess,
}

impl Registry {
    /// Starts an empty registry and waits until it accepts connections.
    pub fn start(access: RegistryAccess) -> Result<Self, LabError> {
        let programs = Programs::find()?;
        let dir = WorkDir::create()?;
        dir.write("registry.yaml", &config(access, &dir)?.to_string())?;
        let daemon = serve(&programs, &dir)?;
        Ok(Self { daemon, dir, programs, access })
    }

    /// Starts the registry again after [`Self::stop`]; its content is preserved.
    pub fn restart(&mut self) -> Result<(), LabError> {
        self.daemon = serve(&self.programs, &self.dir)?;
        Ok(())
    }

    /// Packages and pushes the charts of a release in the catalog.
    pub fn push_release(&self, catalog: &Path, version: &str) -> Result<(), LabError> {
        self.push_release_as(catalog, version, version)
    }

    /// Like [`Self::push_release`] under another version; the images' hub and tag stay the same.
    pub fn push_release_as(&self, catalog: &Path, version: &str, pushed_version: &str) -> Result<(), LabError> {
        let charts = catalog.join(version).join("charts");
        CHART_NAMES.iter().try_for_each(|chart| self.push_chart_as(&charts.join(chart), Some(pushed_version)))
    }

    /// Packages and pushes one chart.
    pub fn push_chart(&self, folder: &Path) -> Result<(), LabError> {
        self.push_chart_as(folder, None)
    }

    /// Packages and pushes one chart, optionally under another version.
    pub fn push_chart_as(&self, folder: &Path, version: Option<&str>) -> Result<(), LabError> {
        let packed = tempdir_in(&self.dir)?;
        let (folder, destination) = (folder.display().to_string(), packed.display().to_string());
        let version = version.map(|version| ["--version", version]);
        let args = ["package", folder.as_str(), "--destination", destination.as_str()];
        self.helm(&[&args[..], version.as_ref().map_or(&[], |version| &version[..])].concat())?;
        for entry in std::fs::read_dir(&packed).map_err(LabError::file(&packed))?.flatten() {
            let archive = entry.path().display().to_string();
            let mut args = vec!["push", archive.as_str(), CHARTS];
            match self.access {
                RegistryAccess::Anonymous => args.push("--plain-http"),
                RegistryAccess::BasicAuth => args.extend(["--plain-http", "--username", USER, "--password", PASSWORD]),
                RegistryAccess::Tls => args.push("--insecure-skip-tls-verify"),
            }
            self.helm(&args)?;
        }
        Ok(())
    }

    /// CA certificate of the registry, as a PEM file.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.dir.path().join("registry-ca.crt")
    }

    /// Storage directory of the registry, with `docker/registry/v2/blobs/sha256/...`.
    #[must_use]
    pub fn storage(&self) -> PathBuf {
        self.dir.path().join("storage")
    }

    /// File of the blob with this digest.
    #[must_use]
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let start: String = hex.chars().take(2).collect();
        self.storage().join("docker/registry/v2/blobs/sha256").join(start).join(hex).join("data")
    }

    /// File of the chart archive with this tag.
    pub fn archive(&self, chart: &str, tag: &str) -> Result<PathBuf, LabError> {
        let read = |path: PathBuf| std::fs::read_to_string(&path).map_err(LabError::file(&path));
        let tags =
            self.storage().join("docker/registry/v2/repositories/istio/charts").join(chart).join("_manifests/tags");
        let manifest = read(self.blob(read(tags.join(tag).join("current/link"))?.trim()))?;
        let manifest: Value = serde_json::from_str(&manifest).unwrap_or_default();
        let digest = manifest.pointer("/layers/0/digest").and_then(Value::as_str).unwrap_or_default();
        Ok(self.blob(digest))
    }

    /// Stops the registry; its content stays until the value is dropped.
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

/// Creates a new directory below the registry's, which is deleted together with it.
fn tempdir_in(dir: &WorkDir) -> Result<PathBuf, LabError> {
    let path = dir.path().join(dir.marker());
    std::fs::create_dir_all(&path).map_err(LabError::file(&path))?;
    Ok(path)
}

/// Builds the configuration as JSON, which is valid YAML.
fn config(access: RegistryAccess, dir: &WorkDir) -> Result<Value, LabError> {
    let mut config = json!({
        "version": "0.1",
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": dir.path().join("storage")}},
        "http": {"addr": LISTEN_ADDRESS},
    });
    let fields = match access {
        RegistryAccess::Anonymous => json!({}),
        RegistryAccess::BasicAuth => {
            json!({"auth": {"htpasswd": {"realm": "lab", "path": dir.write("htpasswd", HTPASSWD)?}}})
        }
        RegistryAccess::Tls => {
            let (certificate, key) = certificate(dir)?;
            json!({"http": {"addr": LISTEN_ADDRESS, "tls": {"certificate": certificate, "key": key}}})
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
    wait_until_listening(&mut daemon)?;
    Ok(daemon)
}

fn wait_until_listening(daemon: &mut Daemon) -> Result<(), LabError> {
    let start = Instant::now();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 5000));
    loop {
        let refused = match TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => error.to_string(),
            Err(error) => format!("{error:?}"),
        };
        let ended = daemon.ended();
        if ended.is_some() || start.elapsed() > TIMEOUT {
            let detail = ended.map_or(refused, |status| status.to_string());
            let (after, log) = (start.elapsed(), daemon.log_tail());
            return Err(LabError::NotReady { program: "registry", after, detail, log });
        }
        // Poll interval; the deadline is checked above.
        std::thread::sleep(Duration::from_millis(20));
    }
}
