//! Compares rendered charts with `helm template`: every chart with every chart profile, platform and values file, and
//! with every compatibility version. Objects and text must be identical. Needs the lab (`make lab`); `--nocapture`
//! prints the number of renders.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation fails the test"
)]

mod lab;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use lab::{CHARTS, KUBE_VERSION, Lab, capabilities, helm_documents, own_documents, release};
use meshwright_chart::{Chart, Limits, RenderError, Rendered, documents};
use serde_json::{Map, Value, json};

const PROFILES: [&str; 5] = ["ambient", "demo", "preview", "remote", "stable"];
const PLATFORMS: [&str; 6] = ["gke", "k3d", "k3s", "microk8s", "minikube", "openshift"];
const COMPATIBILITY: [&str; 6] = ["1.25", "1.26", "1.27", "1.28", "1.29", "1.30"];

/// A render to compare.
struct RenderCase {
    label: String,
    chart: usize,
    kube_version: &'static str,
    values: Value,
}

#[test]
fn charts_render_as_in_helm() {
    let lab = Lab::find();
    let charts: Vec<Chart> = CHARTS.iter().map(|(_, directory, ..)| lab.chart(directory)).collect();
    let cases = cases();
    let (next, rendered, differences) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match compare(&lab, &charts[case.chart], case) {
                        Ok(Agreement::Rendered) => _ = rendered.fetch_add(1, Ordering::Relaxed),
                        Ok(Agreement::Rejected) => {}
                        Err(difference) => {
                            differences.lock().unwrap().push(format!("{}:\n{difference}", case.label));
                        }
                    }
                }
            });
        }
    });
    let differences = differences.into_inner().unwrap();
    let shown = differences.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n\n");
    assert!(differences.is_empty(), "{} of {} renders differ\n{shown}", differences.len(), cases.len());
    let (equal, all) = (rendered.into_inner(), cases.len());
    println!("{all} renders match helm template: {equal} with identical text, {} rejected by both", all - equal);
    assert!(equal > 2000, "only {equal} of {all} cases render");
}

#[test]
fn output_is_deterministic() {
    let lab = Lab::find();
    for (name, directory, release_name, namespace) in CHARTS {
        let values = value_files().remove("awkward").and_then(|all| all.get(name).cloned()).unwrap_or(json!({}));
        let render = || {
            lab.chart(directory)
                .render(&release(release_name, namespace), &values, &capabilities(KUBE_VERSION), &Limits::default())
                .unwrap()
        };
        assert_eq!(render(), render(), "{name}");
    }
}

#[test]
fn rejects_values_with_messages_of_charts() {
    let lab = Lab::find();
    let rejected = value_files().remove("rejected").unwrap();
    for (name, directory, release_name, namespace) in CHARTS {
        let values = &rejected[name];
        let file = lab.write_values(name, values);
        let helm = lab.helm_template((name, directory, release_name, namespace, KUBE_VERSION), &file).unwrap_err();
        let own = lab
            .chart(directory)
            .render(&release(release_name, namespace), values, &capabilities(KUBE_VERSION), &Limits::default())
            .unwrap_err();
        match own {
            RenderError::Rejected { message, .. } => assert!(helm.contains(message.trim()), "{helm}\n{message}"),
            RenderError::Schema { problems, .. } => assert!(helm.contains("schema"), "{helm}\n{problems:?}"),
            RenderError::Template { problem, .. } => assert!(helm.contains(&problem), "{helm}\n{problem}"),
            other => panic!("{name}: {other}"),
        }
    }
}

/// Every chart with every chart profile, platform and values file (and none), and every compatibility version. Istio's
/// CRDs take most of the time and don't depend on the platform: they are omitted in renders with one.
fn cases() -> Vec<RenderCase> {
    let mut cases = Vec::new();
    let files = value_files();
    assert!(files.len() >= 10, "only {} values files", files.len());
    for (chart, (name, ..)) in CHARTS.iter().enumerate() {
        let mut add = |label: String, values: Value| {
            let kube_version = if label.contains("gke") { "v1.33.4-gke.1245000" } else { KUBE_VERSION };
            cases.push(RenderCase { label: format!("{name} {label}"), chart, kube_version, values });
        };
        // Rejected values have their own test.
        let own = files.iter().filter(|(file, _)| *file != "rejected");
        let own = own.filter_map(|(file, all)| Some((file.as_str(), all.get(*name)?.clone())));
        let files: Vec<(&str, Value)> = std::iter::once(("none", json!({}))).chain(own).collect();
        for profile in optional(&PROFILES) {
            for platform in optional(&PLATFORMS) {
                for (file, values) in &files {
                    let mut values = with(values.clone(), [("profile", profile), ("platform", platform)]);
                    if *name == "base" && platform.is_some() {
                        let base = values
                            .as_object_mut()
                            .and_then(|map| map.entry("base").or_insert(json!({})).as_object_mut());
                        base.expect("base's values are a map").insert("enableCRDTemplates".into(), false.into());
                    }
                    add(format!("profile {profile:?} platform {platform:?} values {file}"), values);
                }
            }
        }
        for version in COMPATIBILITY {
            let values = with(json!({}), [("compatibilityVersion", Some(version)), ("profile", Some("demo"))]);
            add(format!("compatibility {version}"), values);
        }
    }
    cases
}

fn optional(names: &[&'static str]) -> Vec<Option<&'static str>> {
    std::iter::once(None).chain(names.iter().copied().map(Some)).collect()
}

fn with<const N: usize>(mut values: Value, settings: [(&str, Option<&str>); N]) -> Value {
    let map = values.as_object_mut().expect("values are a map");
    for (key, value) in settings {
        if let Some(value) = value {
            map.entry(key).or_insert_with(|| value.into());
        }
    }
    values
}

/// The committed values files, with the values of each chart under its name.
fn value_files() -> BTreeMap<String, Map<String, Value>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/values");
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let rendered = Rendered { template: path.display().to_string(), text };
        let Value::Object(values) = documents(&rendered).next().unwrap().unwrap() else {
            panic!("{} is not a map", path.display())
        };
        files.insert(path.file_stem().unwrap().to_string_lossy().into_owned(), values);
    }
    files
}

/// How both renderers agree.
enum Agreement {
    Rendered,
    Rejected,
}

fn compare(lab: &Lab, chart: &Chart, case: &RenderCase) -> Result<Agreement, String> {
    let (name, directory, release_name, namespace) = CHARTS[case.chart];
    let file = lab.write_values(&case.label.replace(|c: char| !c.is_alphanumeric(), "-"), &case.values);
    let helm = lab.helm_template((name, directory, release_name, namespace, case.kube_version), &file);
    let own = chart.render(
        &release(release_name, namespace),
        &case.values,
        &capabilities(case.kube_version),
        &Limits::default(),
    );
    match (helm, own) {
        (Err(_), Err(_)) => Ok(Agreement::Rejected),
        (Ok(_), Err(error)) => Err(format!("only Helm renders this; own error: {error}")),
        (Err(error), Ok(_)) => Err(format!("only Helm rejects this: {error}")),
        (Ok(helm), Ok(own)) => compare_outputs(&helm, &own).map(|()| Agreement::Rendered),
    }
}

fn compare_outputs(helm: &str, own: &[Rendered]) -> Result<(), String> {
    let expected = helm_documents(helm);
    let mut seen = 0;
    for rendered in own {
        let (source, found) = (&rendered.template, own_documents(&rendered.text));
        let mut wanted = expected.get(source).cloned().unwrap_or_default();
        seen += usize::from(!wanted.is_empty());
        // Helm sorts the documents of one file by kind and changes nothing else.
        let mut found = found;
        wanted.sort();
        found.sort();
        if wanted != found {
            // Differing objects are more informative than differing text.
            compare_objects(source, &wanted, &found)?;
            return Err(format!("{source}: text differs\n{}", diff(&wanted.join("\n---\n"), &found.join("\n---\n"))));
        }
    }
    if seen == expected.len() { Ok(()) } else { Err("Helm renders templates that have no output here".into()) }
}

fn compare_objects(source: &str, wanted: &[String], found: &[String]) -> Result<(), String> {
    let (wanted, found) = (objects(source, wanted)?, objects(source, found)?);
    if wanted == found {
        return Ok(());
    }
    let show = |objects: &[Value]| objects.iter().map(|o| format!("{o:#}")).collect::<Vec<_>>().join("\n");
    Err(format!(
        "{source}: objects differ ({} and {})\n{}",
        wanted.len(),
        found.len(),
        diff(&show(&wanted), &show(&found))
    ))
}

/// The objects of one template, in a canonical order.
fn objects(source: &str, texts: &[String]) -> Result<Vec<Value>, String> {
    let rendered = Rendered { template: source.to_owned(), text: texts.join("\n---\n") };
    let mut objects: Vec<Value> = documents(&rendered).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    objects.sort_by_key(Value::to_string);
    Ok(objects)
}

fn diff(wanted: &str, found: &str) -> String {
    let diff = similar::TextDiff::from_lines(wanted, found);
    let text = diff.unified_diff().header("helm", "own").to_string();
    let cut = |line: &str| line.chars().take(200).collect::<String>();
    text.lines().take(40).map(cut).collect::<Vec<_>>().join("\n")
}
