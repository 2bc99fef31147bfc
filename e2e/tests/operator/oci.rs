//! `meshwright catalog pull` from a real registry with Istio's charts, and export and import of releases.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use meshwright_e2e::mesh::VERSION;
use meshwright_e2e::programs::{catalog, operator};
use meshwright_e2e::registry::{ADDRESS, CHARTS, NAME, PASSWORD, Registry, RegistryAccess, USER};
use meshwright_e2e::{TestResult, run_without_cluster};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

/// A temporary catalog with an empty home directory.
pub struct CatalogDir {
    dir: TempDir,
}

impl CatalogDir {
    pub fn new() -> TestResult<Self> {
        Ok(Self { dir: tempfile::tempdir()? })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn release(&self) -> PathBuf {
        self.path("catalog").join(VERSION)
    }

    /// Runs `meshwright catalog` on this catalog without the test's environment.
    pub async fn catalog(&self, args: &[&str], environment: &[(&str, &str)]) -> TestResult<Result<String, String>> {
        let mut command = Command::new(operator());
        command.arg("catalog").args(args).arg("--catalog").arg(self.path("catalog")).env_clear();
        command.env("HOME", self.dir.path()).envs(environment.iter().copied()).kill_on_drop(true);
        let output = command.output().await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        Ok(if output.status.success() { Ok(stdout) } else { Err(format!("{stdout}{stderr}")) })
    }

    /// Pulls the release over plain HTTP.
    async fn pull(&self, more: &[&str]) -> TestResult<Result<String, String>> {
        self.catalog(&[&["pull", CHARTS, "--version", VERSION, "--plain-http"], more].concat(), &[]).await
    }

    /// Checks that the pull fails with a message that contains `words`.
    pub async fn assert_pull_fails(&self, more: &[&str], words: &[&str]) -> TestResult {
        match self.pull(more).await? {
            Ok(output) => Err(format!("the pull succeeded: {output}").into()),
            Err(error) => {
                expect(&error, words);
                Ok(())
            }
        }
    }

    /// Checks that the catalog has no complete or partial release.
    pub fn assert_empty(&self) {
        let entries = std::fs::read_dir(self.path("catalog")).into_iter().flatten().count();
        assert_eq!(entries, 0);
    }
}

pub fn expect(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

fn local() -> TestResult<PathBuf> {
    catalog().ok_or_else(|| "MESHWRIGHT_CATALOG is not set".into())
}

/// Starts a registry with the release of the lab's catalog.
fn registry(door: RegistryAccess) -> TestResult<Registry> {
    let registry = Registry::start(door)?;
    registry.push_release(&local()?, VERSION)?;
    Ok(registry)
}

/// Charts of a release and the OCI artifacts that they were pulled from.
fn origins(release: &Path) -> TestResult<Vec<(String, String)>> {
    let file: Value = serde_saphyr::from_str(&std::fs::read_to_string(release.join("release.yaml"))?)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let charts = file["charts"].as_array().ok_or("no charts")?;
    Ok(charts.iter().map(|chart| (text(&chart["name"]), text(&chart["origin"]))).collect())
}

fn digest(origin: &str) -> &str {
    origin.split_once('@').map(|(_, digest)| digest).unwrap_or_default()
}

async fn rendered(catalog: &Path) -> TestResult<String> {
    let gateways = json!([{"name": "in", "service": {"type": "ClusterIP"}}]);
    let spec = json!({"version": VERSION, "profile": "ambient", "gateways": gateways});
    let (_dir, path) = crate::cli::file("mesh", &spec, &json!({}))?;
    let mut command = Command::new(operator());
    command.args(["render", "-f", &path, "--catalog"]).arg(catalog).env_clear();
    let output = command.output().await?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn pulled_release_is_pinned_and_renders_identically() {
    run_without_cluster(async || {
        let registry = registry(RegistryAccess::Anonymous)?;
        let site = CatalogDir::new()?;
        let message = site.pull(&[]).await??;
        expect(&message, &["added", "istiod@sha256:", "ztunnel@sha256:"]);
        assert_eq!(site.catalog(&["verify"], &[]).await??, format!("{VERSION}: ok\n"));
        let text = rendered(&site.path("catalog")).await?;
        assert_eq!(text, rendered(&local()?).await?);
        assert!(text.len() > 500_000, "{}", text.len());
        let pulled = origins(&site.release())?;
        assert_eq!(pulled.len(), 5);
        for (chart, origin) in &pulled {
            assert!(origin.starts_with(&format!("oci://{ADDRESS}/istio/charts/{chart}@sha256:")), "{origin}");
        }
        assert!(site.pull(&[]).await??.contains(": unchanged"));

        // A changed chart under the same tag requires `--replace`.
        let changed = site.path("istiod");
        copy(&local()?.join(VERSION).join("charts/istiod"), &changed)?;
        std::fs::write(changed.join("files/new.txt"), "other\n")?;
        registry.push_chart(&changed)?;
        site.assert_pull_fails(&[], &["exists with different content", "--replace"]).await?;
        assert_eq!(origins(&site.release())?, pulled);

        // The old chart can still be pulled by digest.
        let pin = |chart: &str, origin: &str| ["--digest".to_owned(), format!("{chart}={}", digest(origin))];
        let pins: Vec<String> = pulled.iter().flat_map(|(chart, origin)| pin(chart, origin)).collect();
        let pins: Vec<&str> = pins.iter().map(String::as_str).collect();
        assert!(site.pull(&pins).await??.contains(": unchanged"));
        let other = CatalogDir::new()?;
        other.pull(&pins).await??;
        assert_eq!(origins(&other.release())?, pulled);
        assert!(site.pull(&["--replace"]).await??.contains("replaced"));
        assert_ne!(origins(&site.release())?, pulled);
        Ok(())
    });
}

#[test]
fn corrupted_pull_leaves_catalog_unchanged() {
    run_without_cluster(async || {
        let mut registry = registry(RegistryAccess::Anonymous)?;
        let site = CatalogDir::new()?;
        site.pull(&[]).await??;
        let before = rendered(&site.path("catalog")).await?;
        let pulled = origins(&site.release())?;
        let manifest_digest = |chart: &str| {
            let found = pulled.iter().find(|(name, _)| name == chart);
            found.map(|(_, origin)| digest(origin).to_owned()).unwrap_or_default()
        };

        let other = format!("sha256:{}", "0".repeat(64));
        let pin = format!("istiod={other}");
        site.assert_pull_fails(&["--replace", "--digest", &pin], &["not found", "istiod@", &other]).await?;
        // The digest of another chart is rejected.
        let pin = format!("istiod={}", manifest_digest("base"));
        site.assert_pull_fails(&["--replace", "--digest", &pin], &["istiod"]).await?;

        let manifest = registry.blob(&manifest_digest("ztunnel"));
        let text = std::fs::read(&manifest)?;
        let layers: Value = serde_json::from_slice(&text)?;
        let archive = layers["layers"][0]["digest"].as_str().unwrap_or_default().to_owned();
        let blob = registry.blob(&archive);
        let bytes = std::fs::read(&blob)?;
        let mut corrupted = bytes.clone();
        let middle = corrupted.len() / 2;
        corrupted[middle] ^= 1;
        std::fs::write(&blob, &corrupted)?;
        site.assert_pull_fails(&["--replace"], &["ztunnel", "is damaged", &archive]).await?;
        std::fs::write(&blob, &bytes[..middle])?;
        site.assert_pull_fails(&["--replace"], &["ztunnel", "is damaged", &archive]).await?;
        std::fs::remove_file(&blob)?;
        site.assert_pull_fails(&["--replace"], &["ztunnel", "is incomplete: layer", &archive]).await?;
        std::fs::write(&blob, &bytes)?;

        // The manifest doesn't match its digest.
        std::fs::write(&manifest, String::from_utf8(text.clone())?.replace("schemaVersion\":2", "schemaVersion\": 2"))?;
        site.assert_pull_fails(&["--replace"], &["ztunnel", "is damaged"]).await?;
        std::fs::write(&manifest, text)?;

        registry.stop();
        site.assert_pull_fails(&["--replace"], &["can't be reached", "Connection refused"]).await?;

        assert_eq!(site.catalog(&["verify"], &[]).await??, format!("{VERSION}: ok\n"));
        assert_eq!(rendered(&site.path("catalog")).await?, before);
        assert_eq!(std::fs::read_dir(site.path("catalog"))?.count(), 1, "no partial release should remain");
        Ok(())
    });
}

#[test]
fn rejects_missing_and_incomplete_releases() {
    run_without_cluster(async || {
        let registry = Registry::start(RegistryAccess::Anonymous)?;
        let site = CatalogDir::new()?;
        site.assert_pull_fails(&[], &["not found", "istio/charts/base", VERSION]).await?;
        for chart in ["base", "istiod", "gateway"] {
            registry.push_chart(&local()?.join(VERSION).join("charts").join(chart))?;
        }
        let pin = format!("cni=sha256:{}", "0".repeat(64));
        site.assert_pull_fails(&["--digest", &pin], &["not found", "cni@sha256:"]).await?;
        site.assert_empty();
        // Older releases have no ztunnel, so missing optional charts are only reported.
        expect(&site.pull(&[]).await??, &["added", "chart cni not found", "chart ztunnel not found"]);
        assert_eq!(origins(&site.release())?.len(), 3);
        Ok(())
    });
}

#[test]
fn reads_credentials_from_flags_and_docker_config() {
    run_without_cluster(async || {
        let _registry = registry(RegistryAccess::BasicAuth)?;
        let site = CatalogDir::new()?;
        let pull = ["pull", CHARTS, "--version", VERSION, "--plain-http"];
        site.assert_pull_fails(&[], &["denied access", "without credentials", "docker login"]).await?;
        let as_user = [&pull[..], &["--username", USER]].concat();
        let wrong = [("MESHWRIGHT_REGISTRY_PASSWORD", "nonsense")];
        let message = site.catalog(&as_user, &wrong).await?.expect_err("the pull should fail");
        expect(&message, &["denied access", "as \"lab\""]);
        assert!(!message.contains("nonsense"), "{message}");
        let message = site.catalog(&as_user, &[]).await?.expect_err("the pull should fail");
        expect(&message, &["requires a password", "MESHWRIGHT_REGISTRY_PASSWORD", "--password-stdin"]);
        site.assert_empty();

        site.catalog(&as_user, &[("MESHWRIGHT_REGISTRY_PASSWORD", PASSWORD)]).await??;
        // Docker's configuration file, which Helm also uses.
        let config = site.path("docker");
        std::fs::create_dir(&config)?;
        let auths = json!({"auths": {ADDRESS: {"username": USER, "password": PASSWORD}}});
        std::fs::write(config.join("config.json"), auths.to_string())?;
        let docker = config.display().to_string();
        let fresh = CatalogDir::new()?;
        expect(&fresh.catalog(&pull, &[("DOCKER_CONFIG", &docker)]).await??, &["added"]);
        std::fs::write(config.join("config.json"), "{")?;
        let message = fresh.catalog(&pull, &[("DOCKER_CONFIG", &docker)]).await?.expect_err("the pull should fail");
        expect(&message, &["Docker's configuration", ADDRESS]);
        // Password on standard input.
        let mut command = Command::new(operator());
        command.arg("catalog").args(&as_user).args(["--password-stdin", "--catalog"]).arg(site.path("catalog"));
        command.env_clear().stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().ok_or("no pipe")?.write_all(format!("{PASSWORD}\n").as_bytes()).await?;
        expect(&String::from_utf8(child.wait_with_output().await?.stdout)?, &["unchanged"]);
        Ok(())
    });
}

#[test]
fn verifies_tls_and_uses_http_proxy() {
    run_without_cluster(async || {
        let registry = registry(RegistryAccess::Tls)?;
        let site = CatalogDir::new()?;
        let pull = ["pull", CHARTS, "--version", VERSION];
        let message = site.catalog(&pull, &[]).await?.expect_err("the pull should fail");
        expect(&message, &["certificate"]);
        site.assert_empty();
        let authority = registry.authority().display().to_string();
        let trusting = [("SSL_CERT_FILE", authority.as_str())];
        expect(&site.catalog(&pull, &trusting).await??, &["added"]);

        // Only the proxy resolves this name.
        let (port, connections) = proxy().await?;
        let proxy = format!("http://127.0.0.1:{port}");
        let by_name = format!("oci://{NAME}/istio/charts");
        let pull = ["pull", &by_name, "--version", VERSION];
        let fresh = CatalogDir::new()?;
        expect(&fresh.catalog(&pull, &trusting).await?.expect_err("the pull should fail"), &["can't be reached", NAME]);
        let through = [trusting[0], ("HTTPS_PROXY", proxy.as_str())];
        expect(&fresh.catalog(&pull, &through).await??, &["added", NAME]);
        assert!(connections.load(Ordering::Relaxed) > 0);
        let around = [trusting[0], ("HTTPS_PROXY", proxy.as_str()), ("NO_PROXY", "127.0.0.1")];
        let before = connections.load(Ordering::Relaxed);
        let direct = ["pull", CHARTS, "--version", VERSION];
        expect(&site.catalog(&direct, &around).await??, &["unchanged"]);
        assert_eq!(connections.load(Ordering::Relaxed), before);
        Ok(())
    });
}

/// Starts an HTTP proxy that connects every host name to the registry, and IP addresses directly. Returns its port and
/// a counter of connections to the registry.
pub async fn proxy() -> TestResult<(u16, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind("0.0.0.0:0").await?;
    let port = listener.local_addr()?.port();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(forward(client, count.clone()));
        }
    });
    Ok((port, connections))
}

async fn forward(client: TcpStream, count: Arc<AtomicUsize>) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    let mut head = String::new();
    while client.read_line(&mut head).await? > 2 {}
    let Some(target) = head.strip_prefix("CONNECT ").and_then(|rest| rest.split_whitespace().next()) else {
        return Ok(());
    };
    let address = target.parse::<SocketAddr>();
    let mut server = match address {
        Ok(address) => TcpStream::connect(address).await?,
        Err(_) => TcpStream::connect(ADDRESS).await?,
    };
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    count.fetch_add(usize::from(address.is_err()), Ordering::Relaxed);
    copy_bidirectional(&mut client, &mut server).await.map(|_| ())
}

pub fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[test]
fn exported_release_renders_identically_after_import() {
    run_without_cluster(async || {
        let site = CatalogDir::new()?;
        let (file, local) = (site.path("release.tar.gz"), local()?);
        let (file, from) = (file.to_str().unwrap_or_default(), local.to_str().unwrap_or_default());
        let output = Command::new(operator())
            .args(["catalog", "export", "--version", VERSION, "--to", file, "--catalog", from])
            .output()
            .await?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // The printed checksum has the format of sha256sum.
        std::fs::write(site.path("sums"), &output.stdout)?;
        assert!(Command::new("sha256sum").arg("--check").arg(site.path("sums")).output().await?.status.success());
        expect(&site.catalog(&["import", "--from", file], &[]).await??, &["added"]);
        assert_eq!(rendered(&site.path("catalog")).await?, rendered(&local).await?);
        Ok(())
    });
}
