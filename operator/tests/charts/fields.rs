//! Every field of the spec appears in an object, at the path in [`super::field_effects`]: a field without effect is a
//! bug.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::field_effects::{FieldEffect, INJECTOR, WITHOUT_EFFECT, effects};
use super::rendering::{ChartRenderer, Objects, value_at};

/// Fields with Kubernetes types, which count as one field each.
const OPAQUE: [&str; 4] = ["affinity", "tolerations", "neverInjectSelector", "alwaysInjectSelector"];

#[test]
fn every_field_appears_in_an_object() {
    for renderer in ChartRenderer::all() {
        let plain = renderer.objects(&json!({})).unwrap();
        for effect in effects() {
            let objects = renderer.objects(&effect.spec).unwrap_or_else(|error| panic!("{}: {error}", effect.field));
            let seen = value_at(&objects, effect.object, effect.path);
            let place = format!("{} {}: {} {}", renderer.version(), effect.field, effect.object, effect.path);
            assert!(matches_expected(&effect.expected, &seen), "{place}: {seen}, expected {}", effect.expected);
            let before = value_at(&plain, effect.object, effect.path);
            assert!(
                !matches_expected(&effect.expected, &before),
                "{place}: {before} is also the value without the field"
            );
            check_template_reads(&effect, &objects, &place);
        }
    }
}

/// Compares values; an expected text that ends with `*` is a prefix.
fn matches_expected(expected: &Value, seen: &Value) -> bool {
    match (expected.as_str().and_then(|text| text.strip_suffix('*')), seen.as_str()) {
        (Some(prefix), Some(seen)) => seen.starts_with(prefix),
        _ => expected == seen,
    }
}

/// istiod uses this value itself, outside of templates, for the proxy's image.
const USED_BY_ISTIOD: &str = ".Values.global.hub";

/// Checks that the injector's template reads a value, without which the value has no effect.
fn check_template_reads(effect: &FieldEffect, objects: &Objects, place: &str) {
    let Some(path) = effect.path.strip_prefix("data values yaml global ") else { return };
    let words: Vec<&str> =
        path.split_whitespace().take_while(|word| *word != "requests" && *word != "limits").collect();
    let read = format!(".Values.global.{}", words.join("."));
    let read = read.trim_end_matches(|c: char| c == '.' || c.is_ascii_digit());
    if read == USED_BY_ISTIOD {
        return;
    }
    let template = value_at(objects, INJECTOR, "data config yaml templates sidecar");
    assert!(template.as_str().is_some_and(|text| text.contains(read)), "{place}: no template reads {read}");
}

#[test]
fn every_field_has_an_effect_entry() {
    let crd = serde_json::to_value(meshwright_api::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut fields = BTreeSet::new();
    leaves("", schema, &mut fields);
    let known: BTreeSet<String> =
        effects().iter().map(|effect| effect.field).chain(WITHOUT_EFFECT).map(str::to_owned).collect();
    let untested: Vec<_> = fields.difference(&known).collect();
    assert!(untested.is_empty(), "fields without an entry in field_effects.rs: {untested:?}");
    let gone: Vec<_> = known.difference(&fields).collect();
    assert!(gone.is_empty(), "entries for fields that the API doesn't have: {gone:?}");
}

/// The leaf fields of a schema; `[]` follows a list.
fn leaves(path: &str, schema: &Value, found: &mut BTreeSet<String>) {
    let last = path.rsplit('.').next().unwrap_or_default();
    let (suffix, properties) = match schema["properties"].as_object() {
        Some(properties) => ("", Some(properties)),
        None => ("[]", schema["items"]["properties"].as_object()),
    };
    match properties.filter(|_| !OPAQUE.contains(&last)) {
        None => {
            found.insert(path.to_owned());
        }
        Some(properties) => {
            for (name, child) in properties {
                let path = if path.is_empty() { name.clone() } else { format!("{path}{suffix}.{name}") };
                leaves(&path, child, found);
            }
        }
    }
}
