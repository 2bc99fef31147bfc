//! The real thing to compare with: `helm` and Istio's charts, as the lab builds them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use meshwright_chart::{Capabilities, Chart, Release};
use serde_json::Value;
use tempfile::TempDir;

pub const KUBE_VERSION: &str = "v1.36.3";

/// Name in the value files, folder below the exported charts, release name, namespace.
pub const CHARTS: [(&str, &str, &str, &str); 6] = [
    ("base", "base", "istio-base", "istio-system"),
    ("istiod", "istio-control/istio-discovery", "istiod", "istio-system"),
    ("gateway", "gateway", "istio-ingressgateway", "istio-ingress"),
    ("cni", "istio-cni", "istio-cni", "istio-system"),
    ("ztunnel", "ztunnel", "ztunnel", "istio-system"),
    ("default", "default", "istio-default", "istio-system"),
];

/// The lab's programs and a folder with the exported charts, gone when dropped.
pub struct Lab {
    helm: PathBuf,
    folder: TempDir,
}

impl Lab {
    /// Finds the lab and exports the charts. Without a lab this fails: a comparison that is skipped proves nothing.
    pub fn find() -> Self {
        let bin = match std::env::var_os("MESHWRIGHT_LAB_BIN") {
            Some(bin) => PathBuf::from(bin),
            None => printed_by_build(),
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let exported = Command::new(bin.join("export-charts")).arg(folder.path()).status();
        assert!(exported.is_ok_and(|status| status.success()), "export-charts failed; run: make lab");
        Self { helm: bin.join("helm"), folder }
    }

    pub fn chart_dir(&self, folder: &str) -> PathBuf {
        self.folder.path().join("charts").join(folder)
    }

    pub fn chart(&self, folder: &str) -> Chart {
        Chart::load(&self.chart_dir(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"))
    }

    /// What `helm template` prints, or what it complains about.
    pub fn helm_template(
        &self,
        (_, folder, release, namespace, kube): Target<'_>,
        values: &Path,
    ) -> Result<String, String> {
        let mut command = Command::new(&self.helm);
        command.args(["template", release]).arg(self.chart_dir(folder)).args(["--namespace", namespace]);
        command.args(["--kube-version", kube]).arg("--values").arg(values);
        // Neither plugins nor repositories of the person who runs the test have a say.
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(variable, self.folder.path().join("helm"));
        }
        let output = command.output().expect("helm runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// A file for `helm --values`.
    pub fn write_values(&self, name: &str, values: &Value) -> PathBuf {
        let path = self.folder.path().join(format!("{name}.json"));
        // Go-yaml would take some characters, written as they are, for line breaks.
        let mut text = String::new();
        for c in values.to_string().chars() {
            match c {
                '\u{80}'..='\u{ffff}' => text.extend(format!("\\u{:04x}", u32::from(c)).chars()),
                c => text.push(c),
            }
        }
        std::fs::write(&path, text).expect("the temporary folder can be written");
        path
    }
}

/// Name in the value files, chart folder, release name, namespace, Kubernetes version.
pub type Target<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str);

fn printed_by_build() -> PathBuf {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/lab/build.sh");
    let output = Command::new("bash").arg(&build).arg("--print").output().expect("bash runs");
    assert!(
        output.status.success(),
        "the lab is not built; run: make lab\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

pub fn release(name: &str, namespace: &str) -> Release {
    Release { name: name.into(), namespace: namespace.into() }
}

pub fn capabilities(kube_version: &str) -> Capabilities {
    Capabilities::of_version(kube_version)
}

/// Documents of a `helm template` output by their source, in order, trimmed as Helm trims them.
pub fn helm_documents(output: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for document in split(output) {
        let Some((source, text)) = document.strip_prefix("# Source: ").and_then(|rest| rest.split_once('\n')) else {
            panic!("a document of helm without source: {document}");
        };
        if says_something(text) {
            found.entry(source.to_owned()).or_default().push(text.trim().to_owned());
        }
    }
    found
}

/// Documents of one rendered text, trimmed alike.
pub fn own_documents(text: &str) -> Vec<String> {
    split(text).filter(|text| says_something(text)).map(|text| text.trim().to_owned()).collect()
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    let text = text.trim_start();
    text.strip_prefix("---").unwrap_or(text).split("\n---").map(str::trim)
}

fn says_something(text: &str) -> bool {
    text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
}
