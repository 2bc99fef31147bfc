//! The operator's image: what makes it and what judges it are others' programs, and it runs as its configuration says.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use meshwright_e2e::mesh::VERSION;
use meshwright_e2e::programs::{catalog, operator};
use meshwright_e2e::registry::{ADDRESS, CHARTS, Door, Registry};
use meshwright_e2e::{TestResult, run_without_cluster};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::cli::meshwright;
use crate::oci::{copy, expect};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const CRANE: &str = "github.com/google/go-containerregistry/cmd/crane";

/// What a program prints when it succeeds; else the error is what it complains of.
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
    path.to_str().ok_or_else(|| "no text".into())
}

/// The programs that make the image and judge it, in a folder of the test's own.
struct Workshop {
    dir: TempDir,
}

impl Workshop {
    /// Builds them: outside of the test's network, since that has no way to modules that aren't there yet.
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

    /// Makes the image, of the program that the tests run: its digest.
    async fn make(&self) -> TestResult<String> {
        let (context, root) = (self.path("context"), self.path("context/dist/root"));
        for folder in ["bin", "catalog", "certificates", "sbom"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        std::fs::copy(Path::new(REPOSITORY).join("Containerfile"), context.join("Containerfile"))?;
        // Without what a debugger needs, which is three quarters of it.
        run("strip", &["-o", text(&root.join("bin/meshwright"))?, text(&operator())?]).await?;
        std::fs::write(root.join("sbom/meshwright.cdx.json"), "{}")?;
        copy(&catalog().ok_or("MESHWRIGHT_CATALOG is not set")?.join(VERSION), &root.join("catalog").join(VERSION))?;
        let out = self.path("out");
        let args = ["-context", text(&context)?, "-out", text(&out)?, "-tag", "meshwright:lab"];
        let said = run(self.path("tools/image"), &args).await?;
        said.split([' ', ',']).find(|word| word.starts_with("sha256:")).map(str::to_owned).ok_or_else(|| said.into())
    }

    /// The file system of an image, with the libraries that the program of the tests needs: that of the image that `make
    /// image` makes is linked statically.
    async fn unpack(&self, image: &str) -> TestResult<Root> {
        let (archive, folder) = (self.path("root.tar"), self.path("root"));
        self.crane(&["export", image, text(&archive)?]).await?;
        std::fs::create_dir(&folder)?;
        run("tar", &["--extract", "--file", text(&archive)?, "--directory", text(&folder)?]).await?;
        let libraries = run("ldd", &[text(&operator())?]).await?;
        for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            let place = folder.join(library.trim_start_matches('/'));
            std::fs::create_dir_all(place.parent().ok_or("no folder")?)?;
            std::fs::copy(library, place)?;
        }
        let config: Value = serde_json::from_str(&self.crane(&["config", image]).await?)?;
        Ok(Root { folder, config: config["config"].clone() })
    }
}

/// An unpacked image, and how it is to be run.
struct Root {
    folder: PathBuf,
    config: Value,
}

impl Root {
    /// Runs it with these arguments, in its own file system and with nothing of our environment.
    async fn run(&self, args: &[&str], environment: &[(&str, &str)]) -> TestResult<Result<String, String>> {
        let texts = |list: &Value| -> Vec<String> {
            list.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
        };
        // It is looked for here: what it is given has another PATH.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let unshare = std::env::split_paths(&path).map(|folder| folder.join("unshare")).find(|file| file.exists());
        let mut command = Command::new(unshare.ok_or("there is no unshare")?);
        // In a user namespace with one user there is no other to be.
        if std::fs::read_to_string("/proc/self/uid_map")?.split_whitespace().nth(2) != Some("1") {
            let (user, group) = self.config["User"].as_str().and_then(|user| user.split_once(':')).ok_or("no user")?;
            command.args(["--setuid", user, "--setgid", group]);
        }
        command.arg("--root").arg(&self.folder).args(texts(&self.config["Entrypoint"])).args(args).env_clear();
        command.envs(texts(&self.config["Env"]).iter().filter_map(|pair| pair.split_once('=')));
        let output = command.envs(environment.iter().copied()).kill_on_drop(true).output().await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = text(&output.stdout) + &text(&output.stderr);
        Ok(if output.status.success() { Ok(said) } else { Err(said) })
    }
}

#[test]
fn the_image_goes_through_a_registry_by_its_digest_and_runs_as_it_says() -> TestResult {
    let workshop = Workshop::build()?;
    run_without_cluster(async || {
        let digest = workshop.make().await?;
        workshop.crane(&["validate", "--tarball", text(&workshop.path("out/image.tar"))?]).await?;
        let mut registry = Registry::start(Door::Open)?;
        let tag = format!("{ADDRESS}/platform/meshwright:0.1.0");
        workshop.crane(&["push", text(&workshop.path("out/image"))?, &tag]).await?;
        assert_eq!(workshop.crane(&["digest", &tag]).await?, digest);
        let image = format!("{ADDRESS}/platform/meshwright@{digest}");
        workshop.crane(&["validate", "--remote", &image]).await?;

        // It may stand for one of Istio's, of which a mirror tells the digest.
        let mirror = format!("{ADDRESS}/istio");
        workshop.crane(&["copy", &image, &format!("{mirror}/pilot:{VERSION}")]).await?;
        let args = ["catalog", "images", "--version", VERSION, "--resolve", "--registry", &mirror, "--plain-http"];
        let ran = meshwright(Path::new("/nowhere/kubeconfig"), &args).await?;
        expect(
            &ran.out,
            &[&format!("  registry: {mirror}\n  digests:\n    pilot: {digest}\n  # there is no {mirror}/")],
        );

        let root = workshop.unpack(&image).await?;
        assert_eq!(root.config["User"], "65532:65532");
        expect(&root.run(&["--version"], &[]).await??, &["meshwright "]);
        assert_eq!(root.run(&["catalog", "verify"], &[]).await??, format!("{VERSION}: ok\n"));

        // No authority is in it but those that the program brings, which don't know this registry's.
        registry.stop();
        let registry = Registry::start(Door::Tls)?;
        let pull = ["catalog", "pull", CHARTS, "--version", VERSION];
        let said = root.run(&pull, &[]).await?.expect_err("a refusal");
        expect(&said, &["invalid peer certificate: UnknownIssuer"]);
        std::fs::copy(registry.authority(), root.folder.join("authority.crt"))?;
        let said = root.run(&pull, &[("SSL_CERT_FILE", "/authority.crt")]).await?.expect_err("an empty registry");
        expect(&said, &["there is no", "istio/charts/base"]);
        let said = root.run(&pull, &[("SSL_CERT_FILE", "/nothing.crt")]).await?.expect_err("a refusal");
        expect(&said, &["certificates"]);
        Ok(())
    });
    Ok(())
}
