//! `helm` and Istio's charts from the lab.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use meshwright_chart::{Capabilities, Chart, Release};
use serde_json::Value;
use tempfile::TempDir;

pub const KUBE_VERSION: &str = "v1.36.3";

/// Name in the values files, directory of the exported charts, release name, namespace.
pub const CHARTS: [(&str, &str, &str, &str); 6] = [
    ("base", "base", "istio-base", "istio-system"),
    ("istiod", "istio-control/istio-discovery", "istiod", "istio-system"),
    ("gateway", "gateway", "istio-ingressgateway", "istio-ingress"),
    ("cni", "istio-cni", "istio-cni", "istio-system"),
    ("ztunnel", "ztunnel", "ztunnel", "istio-system"),
    ("default", "default", "istio-default", "istio-system"),
];

/// The lab's programs and a temporary directory with the exported charts.
pub struct Lab {
    helm: PathBuf,
    directory: TempDir,
}

impl Lab {
    /// Finds the lab and exports the charts. Fails without a lab: a skipped comparison would pass unnoticed.
    pub fn find() -> Self {
        let bin = match std::env::var_os("MESHWRIGHT_LAB_BIN") {
            Some(bin) => PathBuf::from(bin),
            None => printed_by_build(),
        };
        let directory = tempfile::tempdir().expect("a temporary directory");
        let exported = Command::new(bin.join("export-charts")).arg(directory.path()).status();
        assert!(exported.is_ok_and(|status| status.success()), "export-charts failed; run: make lab");
        Self { helm: bin.join("helm"), directory }
    }

    pub fn chart_dir(&self, directory: &str) -> PathBuf {
        self.directory.path().join("charts").join(directory)
    }

    pub fn chart(&self, directory: &str) -> Chart {
        Chart::load(&self.chart_dir(directory)).unwrap_or_else(|error| panic!("{directory}: {error}"))
    }

    /// Returns the output or the error of `helm template`.
    pub fn helm_template(
        &self,
        (_, directory, release, namespace, kube): HelmRelease<'_>,
        values: &Path,
    ) -> Result<String, String> {
        let mut command = Command::new(&self.helm);
        command.args(["template", release]).arg(self.chart_dir(directory)).args(["--namespace", namespace]);
        command.args(["--kube-version", kube]).arg("--values").arg(values);
        // Ignores the plugins and repositories of the user who runs the test.
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(variable, self.directory.path().join("helm"));
        }
        let output = command.output().expect("helm runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Writes a file for `helm --values`.
    pub fn write_values(&self, name: &str, values: &Value) -> PathBuf {
        let path = self.directory.path().join(format!("{name}.json"));
        // Escaped, because go-yaml treats some characters as line breaks.
        let mut text = String::new();
        for c in values.to_string().chars() {
            match c {
                '\u{80}'..='\u{ffff}' => text.extend(format!("\\u{:04x}", u32::from(c)).chars()),
                c => text.push(c),
            }
        }
        std::fs::write(&path, text).expect("the temporary directory can be written");
        path
    }
}

/// Name in the values files, chart directory, release name, namespace, Kubernetes version.
pub type HelmRelease<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str);

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

/// The documents of the output of `helm template` by source, in order, trimmed like Helm does.
pub fn helm_documents(output: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for document in split(output) {
        let Some((source, text)) = document.strip_prefix("# Source: ").and_then(|rest| rest.split_once('\n')) else {
            panic!("a document from Helm without source: {document}");
        };
        if has_content(text) {
            found.entry(source.to_owned()).or_default().push(text.trim().to_owned());
        }
    }
    found
}

/// The documents of one rendered text, trimmed in the same way.
pub fn own_documents(text: &str) -> Vec<String> {
    split(text).filter(|text| has_content(text)).map(|text| text.trim().to_owned()).collect()
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    let text = text.trim_start();
    text.strip_prefix("---").unwrap_or(text).split("\n---").map(str::trim)
}

fn has_content(text: &str) -> bool {
    text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
}
