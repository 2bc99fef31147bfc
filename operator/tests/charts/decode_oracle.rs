//! The operator's check of istiod's configuration against istiod's own functions, over generated documents: chart defaults
//! with one value replaced, and documents that reach every field of the schema.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use fastrand::Rng;
use meshwright::mesh::decode::{ConfigDocument, ReleaseTypes, documents, rejections, unloaded_mesh_setting};
use meshwright_chart::parse_yaml;
use serde_json::{Map, Value, json};

use super::rendering::ChartRenderer;

/// Generated documents per run.
const DOCUMENTS: usize = 20_000;
/// Deepest message that is generated.
const MAX_DEPTH: usize = 6;

fn schema() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../bundled-manifests/schemas/istiod.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Values that are wrong in most places, and right in some.
fn odd_value(rng: &mut Rng) -> Value {
    let pool = [
        json!(null),
        json!(true),
        json!("true"),
        json!(5),
        json!("5"),
        json!("-0"),
        json!("05"),
        json!(""),
        json!(" 7 "),
        json!(1.5),
        json!(2.0),
        json!("1e3"),
        json!(-1),
        json!(4_294_967_296_i64),
        json!([]),
        json!({}),
        json!([null]),
        json!("text"),
        json!("10s"),
        json!("1m30s"),
        json!("1d"),
        json!("host:80"),
        json!("null"),
        json!("NaN"),
    ];
    pool[rng.usize(..pool.len())].clone()
}

fn string(rng: &mut Rng) -> Value {
    let pool = [
        "",
        "a",
        "istio-system",
        "zipkin.istio-system:9411",
        "host:80",
        "127.0.0.1:15",
        "[::1]:80",
        "*.example.com",
        "a_b",
        "cluster.local",
        "a/b",
        "a/*",
        "region",
        "*",
        "configmap://x",
        "/dev/stdout",
        "topology.kubernetes.io/zone",
    ];
    json!(pool[rng.usize(..pool.len())])
}

struct Generator {
    schema: Value,
    rng: Rng,
}

impl Generator {
    fn value(&mut self, type_name: &str, depth: usize) -> Value {
        if self.rng.u8(..100) < 7 {
            return odd_value(&mut self.rng);
        }
        if let Some(element) = type_name.strip_prefix("[]") {
            return (0..self.rng.usize(..3)).map(|_| self.value(element, depth)).collect();
        }
        if let Some(element) = type_name.strip_prefix("{}") {
            let keys = ["a", "region/zone", "region/*", "b.c"];
            let count = self.rng.usize(..3);
            return (0..count)
                .map(|index| (keys[index].to_owned(), self.value(element, depth)))
                .collect::<Map<_, _>>()
                .into();
        }
        if let Some(values) = self.schema["enums"].get(type_name).and_then(Value::as_object) {
            let names: Vec<&String> = values.keys().collect();
            let name = names[self.rng.usize(..names.len())];
            return if self.rng.u8(..5) == 0 { values[name].clone() } else { json!(name) };
        }
        if self.schema["messages"].get(type_name).is_some() && !type_name.ends_with(".IntOrString") {
            return self.message(type_name, None, depth + 1);
        }
        self.scalar(type_name)
    }

    fn message(&mut self, type_name: &str, first: Option<&str>, depth: usize) -> Value {
        let fields = self.schema["messages"][type_name].as_object().unwrap().clone();
        let mut object = Map::new();
        let names: Vec<&String> = fields.keys().collect();
        let count = if depth > MAX_DEPTH || names.is_empty() { 0 } else { 1 + self.rng.usize(..3) };
        let picked = (0..count).map(|_| names[self.rng.usize(..names.len())].as_str());
        let picked: Vec<&str> = first.into_iter().chain(picked.collect::<Vec<_>>()).collect();
        for name in picked {
            let type_name = fields[name].as_str().unwrap();
            let type_name = type_name.strip_prefix('=').map_or(type_name, |json| fields[json].as_str().unwrap());
            let value = self.value(type_name, depth);
            object.insert(name.to_owned(), value);
        }
        Value::Object(object)
    }

    fn scalar(&mut self, type_name: &str) -> Value {
        let rng = &mut self.rng;
        match type_name {
            "bool" | "google.protobuf.BoolValue" => json!(rng.bool()),
            "string" | "scalar" | "google.protobuf.StringValue" => string(rng),
            "google.protobuf.Duration" => {
                let pool = ["0s", "1ms", "1s", "1.5s", "1m30s", "2h", "1us", "-1s", "5"];
                json!(pool[rng.usize(..pool.len())])
            }
            "google.protobuf.Struct" => json!({"any": [1, "b", null]}),
            "google.protobuf.Value" => odd_value(rng),
            name if name.ends_with(".IntOrString") => [json!(5), json!("50%"), json!("5")][rng.usize(..3)].clone(),
            "double" => [json!(0.5), json!("0.5"), json!(3)][rng.usize(..3)].clone(),
            _ => {
                let pool = [
                    json!(0),
                    json!(1),
                    json!(100),
                    json!(15_001),
                    json!(65_536),
                    json!("8"),
                    json!(-3),
                    json!(70_000),
                ];
                pool[rng.usize(..pool.len())].clone()
            }
        }
    }

    /// A document whose root has at least the field at this place in the schema.
    fn document(&mut self, document: ConfigDocument, index: usize) -> Value {
        let root = self.schema["roots"][document.key()].as_str().unwrap().to_owned();
        let names: Vec<String> = self.schema["messages"][&root].as_object().unwrap().keys().cloned().collect();
        self.message(&root, Some(&names[index % names.len()]), 0)
    }
}

/// Replaces the value at a random place, or adds one beside it.
fn mutate(rng: &mut Rng, value: &mut Value) {
    match value {
        Value::Object(entries) if !entries.is_empty() && rng.u8(..8) > 0 => {
            let index = rng.usize(..entries.len());
            if let Some((_, entry)) = entries.iter_mut().nth(index) {
                mutate(rng, entry);
            }
        }
        Value::Array(items) if !items.is_empty() && rng.bool() => {
            let index = rng.usize(..items.len());
            mutate(rng, &mut items[index]);
        }
        other => *other = odd_value(rng),
    }
}

/// What istiod says of a document.
#[derive(serde::Deserialize)]
struct IstiodAnswer {
    /// Empty if the document is accepted.
    error: String,
    /// A mesh configuration as injection templates print it.
    #[serde(default)]
    loaded: String,
}

fn istiod_answers(documents: &[(ConfigDocument, Value)]) -> Vec<IstiodAnswer> {
    let mut oracle = Command::new(lab_program("decode"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the oracle starts; build it with: make lab");
    let mut input = oracle.stdin.take().unwrap();
    let lines: Vec<String> = documents
        .iter()
        .map(|(kind, document)| json!({"kind": kind.key(), "document": document.to_string()}).to_string())
        .collect();
    let writer = thread::spawn(move || {
        for line in lines {
            writeln!(input, "{line}").unwrap();
        }
    });
    let output = oracle.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "the oracle failed");
    let answers = String::from_utf8(output.stdout).unwrap();
    answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A program of the lab; a test that can't find it fails.
fn lab_program(name: &str) -> PathBuf {
    if let Some(bin) = std::env::var_os("MESHWRIGHT_LAB_BIN") {
        return PathBuf::from(bin).join(name);
    }
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/lab/build.sh");
    let output = Command::new("bash").arg(&build).arg("--print").output().unwrap();
    assert!(output.status.success(), "run: make lab\n{}", String::from_utf8_lossy(&output.stderr));
    Path::new(String::from_utf8_lossy(&output.stdout).trim()).join(name)
}

/// What istiod reads of a mesh without settings, for each release and profile.
fn chart_defaults() -> Vec<(ConfigDocument, Value)> {
    let profiles = ["default", "demo", "minimal", "ambient", "stable", "preview", "openshift", "openshift-ambient"];
    let mut found = Vec::new();
    for renderer in ChartRenderer::all() {
        for profile in profiles {
            let platform = if profile.starts_with("openshift") { "openshift" } else { "generic" };
            let desired = renderer.desired(&json!({"profile": profile, "platform": platform})).unwrap();
            found.extend(documents(&desired).map(|(_, document, text)| (document, parse_yaml(&text).unwrap())));
        }
    }
    assert!(found.len() >= 3 * profiles.len(), "{} documents", found.len());
    found
}

fn assert_equal_verdicts(documents: &[(ConfigDocument, Value)]) -> usize {
    let answers = istiod_answers(documents);
    assert_eq!(answers.len(), documents.len());
    let mut different = Vec::new();
    for ((kind, document), IstiodAnswer { error, .. }) in documents.iter().zip(&answers) {
        let ours = rejections(ReleaseTypes::EXPORTED, *kind, document);
        if ours.is_empty() != error.is_empty() {
            let ours: Vec<String> = ours.iter().map(ToString::to_string).collect();
            let document: String = document.to_string().chars().take(500).collect();
            different.push(format!("{}: {document}\n    istiod: {error:?}\n    operator: {ours:?}", kind.key()));
        }
    }
    let shown: Vec<&String> = different.iter().take(12).collect();
    assert!(different.is_empty(), "{} of {} verdicts differ:\n{shown:#?}", different.len(), documents.len());
    assert_loaded(documents, &answers);
    answers.iter().filter(|answer| !answer.error.is_empty()).count()
}

/// Every accepted mesh configuration counts as loaded in the form in which istiod prints it.
fn assert_loaded(documents: &[(ConfigDocument, Value)], answers: &[IstiodAnswer]) {
    let mut unloaded = Vec::new();
    for ((_, document), answer) in documents.iter().zip(answers).filter(|(_, answer)| !answer.loaded.is_empty()) {
        let loaded: Value = serde_json::from_str(&answer.loaded).unwrap();
        if let Some(path) = unloaded_mesh_setting(ReleaseTypes::EXPORTED, document, &loaded) {
            let document: String = document.to_string().chars().take(500).collect();
            unloaded.push(format!("{path}: {document}\n    istiod: {}", answer.loaded));
        }
    }
    let shown: Vec<&String> = unloaded.iter().take(12).collect();
    assert!(unloaded.is_empty(), "{} mesh configurations don't count as loaded:\n{shown:#?}", unloaded.len());
}

#[test]
fn committed_schema_is_up_to_date() {
    let exported = Command::new(lab_program("export-schema")).output().unwrap();
    let exported: Value = serde_json::from_slice(&exported.stdout).unwrap();
    assert!(exported == schema(), "bundled-manifests/schemas/istiod.json is out of date; run: make generate");
}

#[test]
fn generated_documents_have_istiods_verdict() {
    let mut generator = Generator { schema: schema(), rng: Rng::with_seed(1) };
    let documents: Vec<(ConfigDocument, Value)> = (0..DOCUMENTS)
        .map(|index| {
            let kind = ConfigDocument::ALL[index % 3];
            (kind, generator.document(kind, index / 3))
        })
        .collect();
    let refused = assert_equal_verdicts(&documents);
    assert!(
        (2_000..18_000).contains(&refused),
        "{refused} of {DOCUMENTS} are refused: the generator reaches too little"
    );
}

#[test]
fn chart_defaults_are_accepted_and_mutations_judged() {
    let defaults = chart_defaults();
    assert_eq!(assert_equal_verdicts(&defaults), 0, "defaults are accepted");
    let mut rng = Rng::with_seed(2);
    let mutated: Vec<(ConfigDocument, Value)> = (0..DOCUMENTS / 4)
        .map(|index| {
            let (kind, mut document) = defaults[index % defaults.len()].clone();
            mutate(&mut rng, &mut document);
            (kind, document)
        })
        .collect();
    assert_equal_verdicts(&mutated);
}
