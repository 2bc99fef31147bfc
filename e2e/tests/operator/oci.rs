//! `meshwright catalog pull` from a real registry, into which helm has pushed Istio's charts; and releases as files.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use meshwright_e2e::mesh::VERSION;
use meshwright_e2e::programs::{catalog, operator};
use meshwright_e2e::registry::{ADDRESS, CHARTS, Door, NAME, PASSWORD, Registry, USER};
use meshwright_e2e::{TestResult, run_without_cluster};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

/// A catalog of the test's own, and a home without anybody's credentials.
pub struct Site {
    dir: TempDir,
}

impl Site {
    pub fn new() -> TestResult<Self> {
        Ok(Self { dir: tempfile::tempdir()? })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn release(&self) -> PathBuf {
        self.path("catalog").join(VERSION)
    }

    /// Runs `meshwright catalog` on it, with nothing of our environment.
    pub async fn catalog(&self, args: &[&str], environment: &[(&str, &str)]) -> TestResult<Result<String, String>> {
        let mut command = Command::new(operator());
        command.arg("catalog").args(args).arg("--catalog").arg(self.path("catalog")).env_clear();
        command.env("HOME", self.dir.path()).envs(environment.iter().copied()).kill_on_drop(true);
        let output = command.output().await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        Ok(if output.status.success() { Ok(out) } else { Err(format!("{out}{err}")) })
    }

    /// Pulls the release by plain HTTP.
    async fn pull(&self, more: &[&str]) -> TestResult<Result<String, String>> {
        self.catalog(&[&["pull", CHARTS, "--version", VERSION, "--plain-http"], more].concat(), &[]).await
    }

    /// The pull fails, and says all of this.
    pub async fn refused(&self, more: &[&str], words: &[&str]) -> TestResult {
        match self.pull(more).await? {
            Ok(said) => Err(format!("nothing was refused: {said}").into()),
            Err(error) => {
                expect(&error, words);
                Ok(())
            }
        }
    }

    /// Nothing has been added, not even in part.
    pub fn assert_empty(&self) {
        let entries = std::fs::read_dir(self.path("catalog")).into_iter().flatten().count();
        assert_eq!(entries, 0);
    }
}

pub fn expect(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

fn local() -> TestResult<PathBuf> {
    catalog().ok_or_else(|| "MESHWRIGHT_CATALOG is not set".into())
}

/// A registry with the release of the lab's catalog.
fn registry(door: Door) -> TestResult<Registry> {
    let registry = Registry::start(door)?;
    registry.push_release(&local()?, VERSION)?;
    Ok(registry)
}

/// The charts of a release and the artifacts that they were pulled as.
fn origins(release: &Path) -> TestResult<Vec<(String, String)>> {
    let file: Value = serde_saphyr::from_str(&std::fs::read_to_string(release.join("release.yaml"))?)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let charts = file["charts"].as_array().ok_or("no charts")?;
    Ok(charts.iter().map(|chart| (text(&chart["name"]), text(&chart["origin"]))).collect())
}

/// The digest behind the `@`.
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
fn a_pulled_release_renders_what_the_local_one_does_and_stays_what_it_was() {
    run_without_cluster(async || {
        let registry = registry(Door::Open)?;
        let site = Site::new()?;
        let said = site.pull(&[]).await??;
        expect(&said, &["added", "istiod@sha256:", "ztunnel@sha256:"]);
        assert_eq!(site.catalog(&["verify"], &[]).await??, format!("{VERSION}: ok\n"));
        let text = rendered(&site.path("catalog")).await?;
        assert_eq!(text, rendered(&local()?).await?);
        assert!(text.len() > 500_000, "{}", text.len());
        let pulled = origins(&site.release())?;
        assert_eq!(pulled.len(), 5);
        for (chart, origin) in &pulled {
            assert!(origin.starts_with(&format!("oci://{ADDRESS}/istio/charts/{chart}@sha256:")), "{origin}");
        }
        assert!(site.pull(&[]).await??.contains("there already, nothing changed"));

        // Somebody pushes another chart under the same tag: that is other content, and has to be asked for.
        let changed = site.path("istiod");
        copy(&local()?.join(VERSION).join("charts/istiod"), &changed)?;
        std::fs::write(changed.join("files/new.txt"), "other\n")?;
        registry.push_chart(&changed)?;
        site.refused(&[], &["has other content", "--replace"]).await?;
        assert_eq!(origins(&site.release())?, pulled);

        // By digest the old one is still to be had.
        let pin = |chart: &str, origin: &str| ["--digest".to_owned(), format!("{chart}={}", digest(origin))];
        let pins: Vec<String> = pulled.iter().flat_map(|(chart, origin)| pin(chart, origin)).collect();
        let pins: Vec<&str> = pins.iter().map(String::as_str).collect();
        assert!(site.pull(&pins).await??.contains("there already, nothing changed"));
        let other = Site::new()?;
        other.pull(&pins).await??;
        assert_eq!(origins(&other.release())?, pulled);
        assert!(site.pull(&["--replace"]).await??.contains("replaced"));
        assert_ne!(origins(&site.release())?, pulled);
        Ok(())
    });
}

#[test]
fn what_a_registry_has_damaged_or_lost_is_refused_and_the_catalog_stays_as_it_was() {
    run_without_cluster(async || {
        let mut registry = registry(Door::Open)?;
        let site = Site::new()?;
        site.pull(&[]).await??;
        let before = rendered(&site.path("catalog")).await?;
        let pulled = origins(&site.release())?;
        let manifest_digest = |chart: &str| {
            let found = pulled.iter().find(|(name, _)| name == chart);
            found.map(|(_, origin)| digest(origin).to_owned()).unwrap_or_default()
        };

        let other = format!("sha256:{}", "0".repeat(64));
        let pin = format!("istiod={other}");
        site.refused(&["--replace", "--digest", &pin], &["there is no", "istiod@", &other]).await?;
        // What another chart has is no istiod.
        let pin = format!("istiod={}", manifest_digest("base"));
        site.refused(&["--replace", "--digest", &pin], &["istiod"]).await?;

        let manifest = registry.blob(&manifest_digest("ztunnel"));
        let text = std::fs::read(&manifest)?;
        let layers: Value = serde_json::from_slice(&text)?;
        let archive = layers["layers"][0]["digest"].as_str().unwrap_or_default().to_owned();
        let blob = registry.blob(&archive);
        let bytes = std::fs::read(&blob)?;
        let mut damaged = bytes.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        std::fs::write(&blob, &damaged)?;
        site.refused(&["--replace"], &["ztunnel", "is damaged", &archive]).await?;
        std::fs::write(&blob, &bytes[..middle])?;
        site.refused(&["--replace"], &["ztunnel", "is damaged", &archive]).await?;
        std::fs::remove_file(&blob)?;
        site.refused(&["--replace"], &["ztunnel", "lacks its archive", &archive]).await?;
        std::fs::write(&blob, &bytes)?;

        // The manifest says something else than its digest does.
        std::fs::write(&manifest, String::from_utf8(text.clone())?.replace("schemaVersion\":2", "schemaVersion\": 2"))?;
        site.refused(&["--replace"], &["ztunnel", "is damaged"]).await?;
        std::fs::write(&manifest, text)?;

        registry.stop();
        site.refused(&["--replace"], &["can't be reached", "Connection refused"]).await?;

        assert_eq!(site.catalog(&["verify"], &[]).await??, format!("{VERSION}: ok\n"));
        assert_eq!(rendered(&site.path("catalog")).await?, before);
        assert_eq!(std::fs::read_dir(site.path("catalog"))?.count(), 1, "nothing half-done is left");
        Ok(())
    });
}

#[test]
fn a_release_that_is_not_there_or_not_whole_is_refused_by_name() {
    run_without_cluster(async || {
        let registry = Registry::start(Door::Open)?;
        let site = Site::new()?;
        site.refused(&[], &["there is no", "istio/charts/base", VERSION]).await?;
        for chart in ["base", "istiod", "gateway"] {
            registry.push_chart(&local()?.join(VERSION).join("charts").join(chart))?;
        }
        let pin = format!("cni=sha256:{}", "0".repeat(64));
        site.refused(&["--digest", &pin], &["there is no", "cni@sha256:"]).await?;
        site.assert_empty();
        // Istio had no ztunnel once, so a release can be without; it is said.
        expect(&site.pull(&[]).await??, &["added", "no cni there", "no ztunnel there"]);
        assert_eq!(origins(&site.release())?.len(), 3);
        Ok(())
    });
}

#[test]
fn credentials_come_from_flags_or_from_dockers_configuration_and_wrong_ones_are_told() {
    run_without_cluster(async || {
        let _registry = registry(Door::Password)?;
        let site = Site::new()?;
        let pull = ["pull", CHARTS, "--version", VERSION, "--plain-http"];
        site.refused(&[], &["refuses", "without credentials", "docker login"]).await?;
        let as_user = [&pull[..], &["--username", USER]].concat();
        let wrong = [("MESHWRIGHT_REGISTRY_PASSWORD", "nonsense")];
        let said = site.catalog(&as_user, &wrong).await?.expect_err("a refusal");
        expect(&said, &["refuses", "as \"lab\""]);
        assert!(!said.contains("nonsense"), "{said}");
        let said = site.catalog(&as_user, &[]).await?.expect_err("a refusal");
        expect(&said, &["needs a password", "MESHWRIGHT_REGISTRY_PASSWORD", "--password-stdin"]);
        site.assert_empty();

        site.catalog(&as_user, &[("MESHWRIGHT_REGISTRY_PASSWORD", PASSWORD)]).await??;
        // As Docker and Helm keep it.
        let config = site.path("docker");
        std::fs::create_dir(&config)?;
        let auths = json!({"auths": {ADDRESS: {"username": USER, "password": PASSWORD}}});
        std::fs::write(config.join("config.json"), auths.to_string())?;
        let docker = config.display().to_string();
        let fresh = Site::new()?;
        expect(&fresh.catalog(&pull, &[("DOCKER_CONFIG", &docker)]).await??, &["added"]);
        std::fs::write(config.join("config.json"), "{")?;
        let said = fresh.catalog(&pull, &[("DOCKER_CONFIG", &docker)]).await?.expect_err("a refusal");
        expect(&said, &["Docker's configuration", ADDRESS]);
        // By a pipe.
        let mut command = Command::new(operator());
        command.arg("catalog").args(&as_user).args(["--password-stdin", "--catalog"]).arg(site.path("catalog"));
        command.env_clear().stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().ok_or("no pipe")?.write_all(format!("{PASSWORD}\n").as_bytes()).await?;
        expect(&String::from_utf8(child.wait_with_output().await?.stdout)?, &["there already"]);
        Ok(())
    });
}

#[test]
fn by_tls_the_authority_must_be_known_and_a_proxy_is_gone_through() {
    run_without_cluster(async || {
        let registry = registry(Door::Tls)?;
        let site = Site::new()?;
        let pull = ["pull", CHARTS, "--version", VERSION];
        let said = site.catalog(&pull, &[]).await?.expect_err("a refusal");
        expect(&said, &["certificate"]);
        site.assert_empty();
        let authority = registry.authority().display().to_string();
        let trusting = [("SSL_CERT_FILE", authority.as_str())];
        expect(&site.catalog(&pull, &trusting).await??, &["added"]);

        // Only the proxy knows where this name is.
        let (port, passed) = proxy().await?;
        let proxy = format!("http://127.0.0.1:{port}");
        let by_name = format!("oci://{NAME}/istio/charts");
        let pull = ["pull", &by_name, "--version", VERSION];
        let fresh = Site::new()?;
        expect(&fresh.catalog(&pull, &trusting).await?.expect_err("a refusal"), &["can't be reached", NAME]);
        let through = [trusting[0], ("HTTPS_PROXY", proxy.as_str())];
        expect(&fresh.catalog(&pull, &through).await??, &["added", NAME]);
        assert!(passed.load(Ordering::Relaxed) > 0);
        let around = [trusting[0], ("HTTPS_PROXY", proxy.as_str()), ("NO_PROXY", "127.0.0.1")];
        let before = passed.load(Ordering::Relaxed);
        let direct = ["pull", CHARTS, "--version", VERSION];
        expect(&site.catalog(&direct, &around).await??, &["there already"]);
        assert_eq!(passed.load(Ordering::Relaxed), before);
        Ok(())
    });
}

/// A proxy that leads every name to the registry, and addresses to where they are: its port, and how many connections the
/// registry has got from it.
pub async fn proxy() -> TestResult<(u16, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind("0.0.0.0:0").await?;
    let port = listener.local_addr()?.port();
    let passed = Arc::new(AtomicUsize::new(0));
    let count = passed.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass_on(client, count.clone()));
        }
    });
    Ok((port, passed))
}

async fn pass_on(client: TcpStream, count: Arc<AtomicUsize>) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    let mut head = String::new();
    while client.read_line(&mut head).await? > 2 {}
    let Some(place) = head.strip_prefix("CONNECT ").and_then(|rest| rest.split_whitespace().next()) else {
        return Ok(());
    };
    let address = place.parse::<SocketAddr>();
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
fn a_release_goes_by_file_and_renders_the_same_on_the_other_side() {
    run_without_cluster(async || {
        let site = Site::new()?;
        let (file, local) = (site.path("release.tar.gz"), local()?);
        let (file, from) = (file.to_str().unwrap_or_default(), local.to_str().unwrap_or_default());
        let output = Command::new(operator())
            .args(["catalog", "export", "--version", VERSION, "--to", file, "--catalog", from])
            .output()
            .await?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // The sum that is printed is sha256sum's, which checks it.
        std::fs::write(site.path("sums"), &output.stdout)?;
        assert!(Command::new("sha256sum").arg("--check").arg(site.path("sums")).output().await?.status.success());
        expect(&site.catalog(&["import", "--from", file], &[]).await??, &["added"]);
        assert_eq!(rendered(&site.path("catalog")).await?, rendered(&local).await?);
        Ok(())
    });
}
