//! Every field of the spec shows in an object, at the place that [`super::rows`] names; a field that does nothing is a
//! defect.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::rendering::{Mill, Objects, look};
use super::rows::{INJECTOR, Row, SHAPE_NOTHING, rows};

/// Kubernetes' own types and maps are one field to us.
const OPAQUE: [&str; 4] = ["affinity", "tolerations", "neverInjectSelector", "alwaysInjectSelector"];

#[test]
fn every_field_reaches_the_objects() {
    for mill in Mill::all() {
        let plain = mill.objects(&json!({})).unwrap();
        for row in rows() {
            let objects = mill.objects(&row.spec).unwrap_or_else(|error| panic!("{}: {error}", row.field));
            let seen = look(&objects, row.object, row.path);
            let place = format!("{} {}: {} {}", mill.version(), row.field, row.object, row.path);
            assert!(fits(&row.expected, &seen), "{place}: {seen} where {} should be", row.expected);
            let before = look(&plain, row.object, row.path);
            assert!(!fits(&row.expected, &before), "{place}: {before} is there without the field too");
            read_by_a_template(&row, &objects, &place);
        }
    }
}

/// A text that ends with `*` stands for all that begin so.
fn fits(expected: &Value, seen: &Value) -> bool {
    match (expected.as_str().and_then(|text| text.strip_suffix('*')), seen.as_str()) {
        (Some(prefix), Some(seen)) => seen.starts_with(prefix),
        _ => expected == seen,
    }
}

/// Istiod makes the name of the proxy's image of it, without a template.
const READ_BY_ISTIOD: &str = ".Values.global.hub";

/// A value handed to the injector does nothing unless its template reads it.
fn read_by_a_template(row: &Row, objects: &Objects, place: &str) {
    let Some(path) = row.path.strip_prefix("data values yaml global ") else { return };
    let words: Vec<&str> =
        path.split_whitespace().take_while(|word| *word != "requests" && *word != "limits").collect();
    let read = format!(".Values.global.{}", words.join("."));
    let read = read.trim_end_matches(|c: char| c == '.' || c.is_ascii_digit());
    if read == READ_BY_ISTIOD {
        return;
    }
    let template = look(objects, INJECTOR, "data config yaml templates sidecar");
    assert!(template.as_str().is_some_and(|text| text.contains(read)), "{place}: no template reads {read}");
}

#[test]
fn no_field_is_left_out() {
    let crd = serde_json::to_value(meshwright_api::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut fields = BTreeSet::new();
    leaves("", schema, &mut fields);
    let known: BTreeSet<String> = rows().iter().map(|row| row.field).chain(SHAPE_NOTHING).map(str::to_owned).collect();
    let untested: Vec<_> = fields.difference(&known).collect();
    assert!(untested.is_empty(), "fields without a row in rows.rs that shows where they arrive: {untested:?}");
    let gone: Vec<_> = known.difference(&fields).collect();
    assert!(gone.is_empty(), "rows for fields that the API doesn't have: {gone:?}");
}

/// The fields at the ends of a schema; entries of lists are marked `[]`.
fn leaves(path: &str, schema: &Value, found: &mut BTreeSet<String>) {
    let last = path.rsplit('.').next().unwrap_or_default();
    let (mark, properties) = match schema["properties"].as_object() {
        Some(properties) => ("", Some(properties)),
        None => ("[]", schema["items"]["properties"].as_object()),
    };
    match properties.filter(|_| !OPAQUE.contains(&last)) {
        None => {
            found.insert(path.to_owned());
        }
        Some(properties) => {
            for (name, child) in properties {
                let path = if path.is_empty() { name.clone() } else { format!("{path}{mark}.{name}") };
                leaves(&path, child, found);
            }
        }
    }
}
