//! The check of a rendered mesh: its ConfigMaps, with each rejection mapped back to the field of the spec that it is from.

use std::sync::Arc;

use meshwright_api::MeshInstallationSpec;
use semver::Version;
use serde_json::Value;

use super::{ConfigDocument, Rejection, ReleaseTypes, rejections};
use crate::mesh::kind::Kind;
use crate::mesh::object::{Component, DesiredObject};
use crate::mesh::problem::Problem;

/// What istiod of a release would reject of these objects.
#[must_use]
pub fn problems(spec: &MeshInstallationSpec, desired: &[Arc<DesiredObject>], release: &Version) -> Vec<Problem> {
    let types = ReleaseTypes::of(release);
    let spec = serde_json::to_value(spec).unwrap_or_default();
    let mut problems = Vec::new();
    for (object, document, text) in documents(desired) {
        let at = |path: &str| format!("{} data.{}{path}", object.key, document.key());
        match meshwright_chart::parse_yaml(&text) {
            Err(error) => problems.push(Problem::new(at(""), error.to_string())),
            Ok(value) => {
                for Rejection { path, reason } in rejections(types, document, &value) {
                    let field = field(document, &path, &spec).unwrap_or_else(|| at(&format!(".{path}")));
                    problems.push(Problem::new(field, reason));
                }
            }
        }
    }
    problems
}

/// The documents that istiod decodes.
pub fn documents(
    desired: &[Arc<DesiredObject>],
) -> impl Iterator<Item = (&Arc<DesiredObject>, ConfigDocument, String)> {
    let config_maps = desired.iter().filter(|d| d.key.kind == Kind::ConfigMap && d.component == Component::Istiod);
    config_maps.flat_map(|object| {
        let value = object.value();
        ConfigDocument::ALL.into_iter().filter_map(move |document| {
            if (document == ConfigDocument::Mesh) == object.key.is_injector_configuration() {
                return None;
            }
            let text = value.pointer("/data")?.get(document.key())?.as_str()?;
            Some((object, document, text.to_owned()))
        })
    })
}

/// The field of the spec that a value of a document is from, if the spec has one at that path.
fn field(document: ConfigDocument, path: &str, spec: &Value) -> Option<String> {
    let parents: &[&str] = match document {
        ConfigDocument::Mesh => &["meshConfig", "values.istiod.meshConfig", "values.istiod.pilot.meshConfig"],
        ConfigDocument::Values => &["values.istiod", "values.istiod.pilot"],
        ConfigDocument::Config => {
            &["injector", "values.istiod.sidecarInjectorWebhook", "values.istiod.pilot.sidecarInjectorWebhook"]
        }
    };
    // The chart puts variables and CNI settings below `pilot`, wherever the user wrote them.
    let path = path.strip_prefix("pilot.").filter(|_| document == ConfigDocument::Values).unwrap_or(path);
    parents.iter().find(|parent| has(spec, &format!("{parent}.{path}"))).map(|parent| format!("spec.{parent}.{path}"))
}

fn has(spec: &Value, path: &str) -> bool {
    let mut value = Some(spec);
    for part in path.split('.').flat_map(|part| part.split_inclusive(']')).flat_map(|part| part.split('[')) {
        let Some(current) = value else { return false };
        value = match part.strip_suffix(']') {
            Some(index) => index.parse::<usize>().ok().and_then(|index| current.get(index)),
            None if part.is_empty() => Some(current),
            None => current.get(part),
        };
    }
    value.is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_rejections_to_fields() {
        let spec = json!({
            "meshConfig": {"extensionProviders": [{"name": 5}]},
            "values": {"istiod": {"global": {"proxy": {"privileged": "true"}}}},
        });
        let mapped = |document, path: &str| field(document, path, &spec);
        assert_eq!(
            mapped(ConfigDocument::Mesh, "extensionProviders[0].name").as_deref(),
            Some("spec.meshConfig.extensionProviders[0].name")
        );
        assert_eq!(
            mapped(ConfigDocument::Values, "global.proxy.privileged").as_deref(),
            Some("spec.values.istiod.global.proxy.privileged")
        );
        assert_eq!(mapped(ConfigDocument::Mesh, "extensionProviders[1].name"), None);
        let legacy = json!({"values": {"istiod": {"cni": {"enabled": 1}, "pilot": {"env": {"A": {}}}}}});
        let mapped = |path: &str| field(ConfigDocument::Values, path, &legacy);
        assert_eq!(mapped("pilot.env.A").as_deref(), Some("spec.values.istiod.pilot.env.A"));
        assert_eq!(mapped("pilot.cni.enabled").as_deref(), Some("spec.values.istiod.cni.enabled"));
    }
}
