//! Bounds of status. Its strings and lists come from specs, pods, nodes and other clients, and the API server refuses
//! objects that are too large: without bounds, a single pod could stop all status writes.

use meshwright_api::conditions::ConditionType;
use meshwright_api::{
    CaStatus, ComponentStatus, GatewayApiStatus, GatewayPortStatus, GatewayStatus, MeshInstallationStatus,
    NodePortRangeStatus, NodePortStatus, PlatformStatus, ProxiesStatus, UpgradeStatus, VersionStatus,
};

use super::text::{shorten, shorten_list, shortened};

/// The most bytes of a status as JSON.
const MAX_STATUS: usize = 60 * 1024;
/// Names that the operator compares, such as that of a ControllerRevision. Kubernetes has no longer ones.
const IDENTIFIER: usize = 253;

/// The most bytes of strings, and the most elements of lists.
struct Limits {
    name: usize,
    text: usize,
    condition: usize,
    strings: usize,
    objects: usize,
}

/// Tried in this order until the status is small enough; the first is enough for nearly all.
const LEVELS: [Limits; 5] = [
    Limits { name: 253, text: 1024, condition: 2048, strings: 32, objects: 256 },
    Limits { name: 253, text: 512, condition: 1024, strings: 32, objects: 128 },
    Limits { name: 253, text: 256, condition: 1024, strings: 16, objects: 64 },
    Limits { name: 128, text: 128, condition: 512, strings: 8, objects: 32 },
    SMALLEST,
];
const SMALLEST: Limits = Limits { name: 64, text: 128, condition: 256, strings: 4, objects: 8 };

/// The status with bounded strings and lists, smaller than 64 KiB as JSON. Applied to each status before it is compared
/// and written.
#[must_use]
pub fn bounded(mut status: MeshInstallationStatus) -> MeshInstallationStatus {
    let before = lengths(&status);
    let message = status.message.take();
    for limits in &LEVELS {
        limits.apply(&mut status);
        let note = omission(before, lengths(&status));
        status.message = match &message {
            None if note.is_empty() => None,
            message => {
                let room = limits.text.saturating_sub(note.len());
                Some(shortened(message.as_deref().unwrap_or_default(), room) + &note)
            }
        };
        if json_size(&status) <= MAX_STATUS {
            break;
        }
    }
    status
}

/// What was omitted from lists, as the end of a message; empty if nothing was.
fn omission(before: ListLengths, after: ListLengths) -> String {
    let omitted: Vec<String> = before
        .into_iter()
        .zip(after)
        .filter(|((_, before), (_, after))| before > after)
        .map(|((what, before), (_, after))| format!("{} of {before} {what}", before - after))
        .collect();
    if omitted.is_empty() { String::new() } else { format!("; status omits {}", omitted.join(", ")) }
}

/// The part of a status that is written when the API server refuses all of it: conditions, versions, and the step of an
/// upgrade with its deadline.
#[must_use]
pub fn minimal(status: &MeshInstallationStatus) -> MeshInstallationStatus {
    let is_own = |type_: &str| ConditionType::ALL.iter().any(|own| own.as_str() == type_);
    let mut minimal = MeshInstallationStatus {
        observed_generation: status.observed_generation,
        conditions: status.conditions.iter().filter(|condition| is_own(&condition.type_)).cloned().collect(),
        phase: status.phase,
        message: status.message.clone(),
        version: status.version.clone(),
        upgrade: status.upgrade.clone(),
        ..MeshInstallationStatus::default()
    };
    SMALLEST.apply(&mut minimal);
    minimal
}

fn json_size(status: &MeshInstallationStatus) -> usize {
    serde_json::to_vec(status).map_or(0, |text| text.len())
}

/// The lengths of the lists whose elements have no room for a note on omitted ones.
type ListLengths = [(&'static str, usize); 5];

fn lengths(status: &MeshInstallationStatus) -> ListLengths {
    [
        ("conditions", status.conditions.len()),
        ("components", status.components.len()),
        ("gateways", status.gateways.len()),
        ("gateway ports", status.gateways.iter().map(|gateway| gateway.ports.len()).sum()),
        ("node ports", status.node_ports.len()),
    ]
}

fn shorten_all<'s>(texts: impl IntoIterator<Item = &'s mut String>, limit: usize) {
    texts.into_iter().for_each(|text| shorten(text, limit));
}

// Each function destructures without `..`, so that the compiler points here when status gets another field.
impl Limits {
    fn apply(&self, status: &mut MeshInstallationStatus) {
        let MeshInstallationStatus {
            observed_generation: _,
            conditions,
            phase: _,
            message,
            version,
            upgrade,
            platform,
            components,
            gateways,
            node_ports,
            ca,
            gateway_api,
            proxies,
        } = status;
        conditions.truncate(self.objects);
        for condition in conditions {
            shorten_all([&mut condition.type_, &mut condition.status, &mut condition.reason], self.name);
            shorten(&mut condition.message, self.condition);
        }
        self.texts(message);
        shorten_versions(version);
        if let Some(upgrade) = upgrade {
            self.upgrade(upgrade);
        }
        self.platform(platform);
        components.truncate(self.objects);
        for component in components.iter_mut() {
            self.component(component);
        }
        gateways.truncate(self.objects);
        for gateway in gateways.iter_mut() {
            self.gateway(gateway);
        }
        node_ports.truncate(self.objects);
        for port in node_ports {
            self.node_port(port);
        }
        if let Some(CaStatus { source: _, not_after: _, intermediate }) = ca {
            self.names(intermediate);
        }
        if let Some(GatewayApiStatus { installed: _, version }) = gateway_api {
            self.names(version);
        }
        if let Some(ProxiesStatus { versions, outdated: _, message, configuration, stale_configuration: _ }) = proxies {
            self.list(versions, self.name);
            self.names(configuration);
            self.texts(message);
        }
    }

    fn names<'s>(&self, names: impl IntoIterator<Item = &'s mut String>) {
        shorten_all(names, self.name);
    }

    fn texts<'s>(&self, texts: impl IntoIterator<Item = &'s mut String>) {
        shorten_all(texts, self.text);
    }

    fn list(&self, list: &mut Vec<String>, limit: usize) {
        shorten_list(list, self.strings);
        shorten_all(list, limit);
    }

    fn upgrade(&self, upgrade: &mut UpgradeStatus) {
        let UpgradeStatus {
            from,
            to,
            direction: _,
            controller_revision,
            step: _,
            gateway,
            started_at: _,
            step_started_at: _,
            deadline: _,
            outcome: _,
            ended_at: _,
            message,
        } = upgrade;
        shorten_all([from, to, controller_revision].into_iter().chain(gateway), IDENTIFIER);
        self.texts(message);
    }

    fn platform(&self, platform: &mut PlatformStatus) {
        let PlatformStatus { name, evidence, load_balancer: _, privileged_pods: _, warnings, node_port_range } =
            platform;
        self.names(name);
        self.list(evidence, self.text);
        self.list(warnings, self.text);
        if let Some(NodePortRangeStatus { range, source: _, message }) = node_port_range {
            self.names([range]);
            self.texts(message);
        }
    }

    fn component(&self, component: &mut ComponentStatus) {
        let ComponentStatus { name, namespace, version, ready: _, desired: _, message } = component;
        self.names(std::iter::once(name).chain(namespace).chain(version));
        self.texts(message);
    }

    fn gateway(&self, gateway: &mut GatewayStatus) {
        let GatewayStatus { name, namespace, ready: _, message, addresses, address_type: _, ports } = gateway;
        self.names([name, namespace]);
        self.texts(message);
        self.list(addresses, self.name);
        ports.truncate(self.objects);
        for GatewayPortStatus { name, port: _, node_port: _, protocol: _ } in ports {
            self.names([name]);
        }
    }

    fn node_port(&self, node_port: &mut NodePortStatus) {
        let NodePortStatus { port: _, protocol: _, namespace, service, port_name, from: _ } = node_port;
        self.names([namespace, service, port_name]);
    }
}

fn shorten_versions(version: &mut VersionStatus) {
    let VersionStatus { desired, resolved, running, previous, revision, retiring } = version;
    for version in [desired, resolved, running, previous, revision, retiring] {
        shorten_all(version, IDENTIFIER);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray};
    use meshwright_api::{Phase, UpgradeStep};
    use serde_json::{Map, Value, json};

    use super::*;

    /// The most bytes that a status may have.
    const BOUND: usize = 64 * 1024;

    /// The schema of status in the CRD.
    fn schema() -> JSONSchemaProps {
        let crd = meshwright_api::crd();
        let root = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
        root.properties.unwrap()["status"].clone()
    }

    /// A value of a schema with all fields, in which every string is `text`, every list has `length` elements, and lists
    /// in lists have `nested`.
    fn sample(schema: &JSONSchemaProps, text: &str, length: usize, nested: usize) -> Value {
        if let Some(first) = schema.enum_.as_ref().and_then(|values| values.first()) {
            return first.0.clone();
        }
        match schema.type_.as_deref() {
            Some("object") => {
                let properties = schema.properties.iter().flatten();
                properties
                    .map(|(name, of)| (name.clone(), sample(of, text, length, nested)))
                    .collect::<Map<_, _>>()
                    .into()
            }
            Some("array") => {
                let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items else { return json!([]) };
                vec![sample(items, text, nested, nested); length].into()
            }
            Some("string") if schema.format.as_deref() == Some("date-time") => json!("2026-01-01T00:00:00Z"),
            Some("string") => json!(text),
            Some("integer") => json!(30000),
            Some("boolean") => json!(true),
            other => panic!("type {other:?} in the schema of status"),
        }
    }

    fn hostile(character: char, bytes: usize, length: usize, nested: usize) -> MeshInstallationStatus {
        let text = character.to_string().repeat(bytes / character.len_utf8());
        serde_json::from_value(sample(&schema(), &text, length, nested)).unwrap()
    }

    #[test]
    fn sample_has_all_fields() {
        let status = serde_json::to_value(hostile('x', 5, 1, 1)).unwrap();
        assert_eq!(status, sample(&schema(), "xxxxx", 1, 1));
    }

    #[test]
    fn status_is_bounded() {
        let sizes = [(1_000_000, 1, 1), (3_000, 60, 5), (300, 500, 3), (100, 20, 100)];
        let characters = ['x', '"', '\u{1}', 'é', '🦀'];
        let all = sizes.into_iter().flat_map(|size| characters.map(|character| (size, character)));
        for ((bytes, length, nested), character) in all.chain([((10, 10_000, 1), 'x'), ((10, 1, 10_000), 'x')]) {
            let status = bounded(hostile(character, bytes, length, nested));
            let size = json_size(&status);
            assert!(size < BOUND, "{size} bytes with lists of {length} and strings of {bytes} {character:?}");
            assert_eq!(bounded(status.clone()), status, "a bounded status stays as it is");
            assert!(json_size(&minimal(&status)) < 8 * 1024);
        }
    }

    #[test]
    fn usual_status_stays_as_it_is() {
        let mut status = hostile('x', 60, 12, 5);
        assert_eq!(bounded(status.clone()), status);
        status.message = Some("y".repeat(1_000));
        assert_eq!(bounded(status.clone()), status);
    }

    #[test]
    fn shortened_lists_say_what_is_missing() {
        let mut status = MeshInstallationStatus { message: Some("ready".into()), ..MeshInstallationStatus::default() };
        status.platform.warnings = (0..100).map(|n| format!("warning {n}")).collect();
        let gateway = |n: usize| GatewayStatus { name: format!("g{n}"), ..GatewayStatus::default() };
        status.gateways = (0..300).map(gateway).collect();
        let status = bounded(status);
        assert_eq!(status.platform.warnings.last().unwrap(), "and 69 more");
        assert_eq!(status.message.as_deref(), Some("ready; status omits 44 of 300 gateways"));
    }

    #[test]
    fn minimal_status_keeps_conditions_and_deadline() {
        let mut status = hostile('x', 1_000, 4, 1);
        status.conditions[0].type_ = "Ready".into();
        let upgrade = status.upgrade.as_mut().unwrap();
        (upgrade.step, upgrade.controller_revision) = (UpgradeStep::Gateway, "mesh-1".into());
        let (deadline, phase) = (upgrade.deadline.clone(), Some(Phase::Updating));
        status.phase = phase;
        let minimal = minimal(&status);
        assert_eq!(minimal.conditions.len(), 1, "others are not ours");
        let upgrade = minimal.upgrade.unwrap();
        assert_eq!((upgrade.step, upgrade.controller_revision.as_str()), (UpgradeStep::Gateway, "mesh-1"));
        assert_eq!((upgrade.deadline, minimal.phase), (deadline, phase));
        assert!(minimal.components.is_empty() && minimal.gateways.is_empty());
    }
}
