//! The operator's image: built and validated by external programs, and run as its configuration specifies.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use meshwright_e2e::mesh::VERSION;
use meshwright_e2e::programs::{catalog, operator};
use meshwright_e2e::registry::{ADDRESS, CHARTS, Registry, RegistryAccess};
use meshwright_e2e::{TestResult, run_without_cluster};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::cli::meshwright;
use crate::oci::{copy, expect};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const CRANE: &str = "github.com/google/go-containerregistry/cmd/crane";

/// Runs a program; returns its standard output, or its standard error as the error.
async fn run(program: impl AsRef<OsStr>, args: &[&str]) -> TestResult<String> {
    let output = Command::new(&program).args(args).kill_on_drop(true).output().await?;
    if output.status.success() {
        Ok(String::from_utf8(output.stdout)?)
    } else {
        let program = Path::new(program.as_ref()).display().to_string();
        Err(format!("{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }
}

fn text(path: &Path) -> TestResult<&str> {
    path.to_str().ok_or_else(|| "the path is not UTF-8".into())
}

/// The programs that build and validate the image, in a temporary directory.
struct ImageTools {
    dir: TempDir,
}

impl ImageTools {
    /// Builds the programs. Call it outside of the test's network namespace, because Go may download modules.
    fn build() -> TestResult<Self> {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join("tools"))?;
        let mut command = std::process::Command::new("go");
        command.current_dir(Path::new(REPOSITORY).join("image")).args(["build", "-buildvcs=false", "-o"]);
        let output = command.arg(dir.path().join("tools/")).args([".", CRANE]).output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(Self { dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn crane(&self, args: &[&str]) -> TestResult<String> {
        Ok(run(self.path("tools/crane"), &[args, &["--insecure"]].concat()).await?.trim().to_owned())
    }

    /// Builds the image with the operator under test; returns its digest.
    async fn build_image(&self) -> TestResult<String> {
        let (context, root) = (self.path("context"), self.path("context/dist/root"));
        for dir in ["bin", "catalog", "certificates", "sbom"] {
            std::fs::create_dir_all(root.join(dir))?;
        }
        std::fs::copy(Path::new(REPOSITORY).join("Containerfile"), context.join("Containerfile"))?;
        // Debug symbols are three quarters of the binary.
        run("strip", &["-o", text(&root.join("bin/meshwright"))?, text(&operator())?]).await?;
        std::fs::write(root.join("sbom/meshwright.cdx.json"), "{}")?;
        copy(&catalog().ok_or("MESHWRIGHT_CATALOG is not set")?.join(VERSION), &root.join("catalog").join(VERSION))?;
        let out = self.path("out");
        let args = ["-context", text(&context)?, "-out", text(&out)?, "-tag", "meshwright:lab"];
        let output_text = run(self.path("tools/image"), &args).await?;
        output_text
            .split([' ', ','])
            .find(|word| word.starts_with("sha256:"))
            .map(str::to_owned)
            .ok_or_else(|| output_text.into())
    }

    /// Unpacks the file system of an image and adds the shared libraries of the test's operator; `make image` links
    /// statically.
    async fn unpack(&self, image: &str) -> TestResult<UnpackedImage> {
        let (archive, dir) = (self.path("root.tar"), self.path("root"));
        self.crane(&["export", image, text(&archive)?]).await?;
        std::fs::create_dir(&dir)?;
        run("tar", &["--extract", "--file", text(&archive)?, "--directory", text(&dir)?]).await?;
        let libraries = run("ldd", &[text(&operator())?]).await?;
        for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            let target = dir.join(library.trim_start_matches('/'));
            std::fs::create_dir_all(target.parent().ok_or("no parent directory")?)?;
            std::fs::copy(library, target)?;
        }
        let config: Value = serde_json::from_str(&self.crane(&["config", image]).await?)?;
        Ok(UnpackedImage { dir, config: config["config"].clone() })
    }
}

/// File system and configuration of an image.
struct UnpackedImage {
    dir: PathBuf,
    config: Value,
}

impl UnpackedImage {
    /// Runs the image's entrypoint with these arguments in its file system, without the test's environment.
    async fn run(&self, args: &[&str], environment: &[(&str, &str)]) -> TestResult<Result<String, String>> {
        let texts = |list: &Value| -> Vec<String> {
            list.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
        };
        // Resolves unshare here, because the command gets another PATH.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let unshare = std::env::split_paths(&path).map(|dir| dir.join("unshare")).find(|file| file.exists());
        let mut command = Command::new(unshare.ok_or("unshare is not installed")?);
        // A user namespace with a single user ID can't switch users.
        if std::fs::read_to_string("/proc/self/uid_map")?.split_whitespace().nth(2) != Some("1") {
            let (user, group) = self.config["User"].as_str().and_then(|user| user.split_once(':')).ok_or("no user")?;
            command.args(["--setuid", user, "--setgid", group]);
        }
        command.arg("--root").arg(&self.dir).args(texts(&self.config["Entrypoint"])).args(args).env_clear();
        command.envs(texts(&self.config["Env"]).iter().filter_map(|pair| pair.split_once('=')));
        let output = command.envs(environment.iter().copied()).kill_on_drop(true).output().await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let output_text = text(&output.stdout) + &text(&output.stderr);
        Ok(if output.status.success() { Ok(output_text) } else { Err(output_text) })
    }
}

#[test]
fn image_is_pushed_by_digest_and_runs() -> TestResult {
    let tools = ImageTools::build()?;
    run_without_cluster(async || {
        let digest = tools.build_image().await?;
        tools.crane(&["validate", "--tarball", text(&tools.path("out/image.tar"))?]).await?;
        let mut registry = Registry::start(RegistryAccess::Anonymous)?;
        let tag = format!("{ADDRESS}/platform/meshwright:0.1.0");
        tools.crane(&["push", text(&tools.path("out/image"))?, &tag]).await?;
        assert_eq!(tools.crane(&["digest", &tag]).await?, digest);
        let image = format!("{ADDRESS}/platform/meshwright@{digest}");
        tools.crane(&["validate", "--remote", &image]).await?;

        // Copied as pilot, the image shows that digests are resolved from a mirror.
        let mirror = format!("{ADDRESS}/istio");
        tools.crane(&["copy", &image, &format!("{mirror}/pilot:{VERSION}")]).await?;
        let args = ["catalog", "images", "--version", VERSION, "--resolve", "--registry", &mirror, "--plain-http"];
        let output = meshwright(Path::new("/nowhere/kubeconfig"), &args).await?;
        expect(
            &output.stdout,
            &[&format!("  registry: {mirror}\n  digests:\n    pilot: {digest}\n  # not found: {mirror}/")],
        );

        let root = tools.unpack(&image).await?;
        assert_eq!(root.config["User"], "65532:65532");
        expect(&root.run(&["--version"], &[]).await??, &["meshwright "]);
        assert_eq!(root.run(&["catalog", "verify"], &[]).await??, format!("{VERSION}: ok\n"));

        // The image trusts only the public CAs in the binary, not this registry's.
        registry.stop();
        let registry = Registry::start(RegistryAccess::Tls)?;
        let pull = ["catalog", "pull", CHARTS, "--version", VERSION];
        let message = root.run(&pull, &[]).await?.expect_err("the pull should fail");
        expect(&message, &["invalid peer certificate: UnknownIssuer"]);
        std::fs::copy(registry.authority(), root.dir.join("authority.crt"))?;
        let message =
            root.run(&pull, &[("SSL_CERT_FILE", "/authority.crt")]).await?.expect_err("the registry is empty");
        expect(&message, &["not found", "istio/charts/base"]);
        let message = root.run(&pull, &[("SSL_CERT_FILE", "/nothing.crt")]).await?.expect_err("the pull should fail");
        expect(&message, &["certificates"]);
        Ok(())
    });
    Ok(())
}
