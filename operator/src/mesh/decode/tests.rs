use serde_json::json;

use super::schema::SCHEMA;
use super::{ConfigDocument, ReleaseTypes, rejections};

fn rejected(document: ConfigDocument, value: &serde_json::Value) -> Vec<String> {
    rejections(ReleaseTypes::EXPORTED, document, value).iter().map(ToString::to_string).collect()
}

/// The same for a minor of Istio.
fn rejected_by(minor: u64, mesh: &serde_json::Value) -> Vec<String> {
    let types = ReleaseTypes::of(&semver::Version::new(1, minor, 2));
    rejections(types, ConfigDocument::Mesh, mesh).iter().map(ToString::to_string).collect()
}

#[test]
fn schema_is_readable() {
    for document in ConfigDocument::ALL {
        let root = &SCHEMA.roots[document.key()];
        assert!(SCHEMA.messages[root].len() > 5, "{root}");
    }
}

#[test]
fn refuses_values_of_the_wrong_type() {
    let values = json!({"global": {"proxy": {"privileged": "true"}}});
    assert_eq!(
        rejected(ConfigDocument::Values, &values),
        ["global.proxy.privileged: \"true\" is not true or false, without quotes"]
    );
    let mesh = json!({"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}, "accessLogFile": 5});
    assert_eq!(rejected(ConfigDocument::Mesh, &mesh), ["accessLogFile: 5 is not a string; quote it"]);
    let mode = json!({"outboundTrafficPolicy": {"mode": "REGISTRY"}});
    assert_eq!(
        rejected(ConfigDocument::Mesh, &mode),
        ["outboundTrafficPolicy.mode: \"REGISTRY\" is not one of ALLOW_ANY, ALLOW_ANY_DYNAMIC_DNS, REGISTRY_ONLY"]
    );
}

#[test]
fn accepts_what_the_legacy_decoder_accepts() {
    let mesh = json!({
        "connectTimeout": "1m30s", "proxyListenPort": "15001", "access_log_file": "/dev/stdout", "unknown": 5,
        "defaultConfig": {"statusPort": 15020.0, "concurrency": null, "proxyMetadata": {"A": "1"}},
    });
    assert_eq!(rejected(ConfigDocument::Mesh, &mesh), Vec::<String>::new());
    assert_eq!(rejected(ConfigDocument::Mesh, &json!(null)), Vec::<String>::new());
}

#[test]
fn rejects_invalid_mesh_config() {
    let mesh = json!({"defaultConfig": {"statusPort": 0, "drainDuration": "1.5s"}, "trustDomain": "a_b"});
    assert_eq!(
        rejected(ConfigDocument::Mesh, &mesh),
        [
            "defaultConfig.drainDuration: the duration must be in whole seconds",
            "defaultConfig.statusPort: 0 is not a port from 1 to 65535",
            "trustDomain: \"a_b\" is not a domain name",
        ]
    );
}

#[test]
fn refuses_enum_values_that_a_minor_lacks() {
    let mesh = json!({"outboundTrafficPolicy": {"mode": "ALLOW_ANY_DYNAMIC_DNS"}});
    assert_eq!(
        rejected_by(29, &mesh),
        ["outboundTrafficPolicy.mode: \"ALLOW_ANY_DYNAMIC_DNS\" is not one of ALLOW_ANY, REGISTRY_ONLY"]
    );
    assert_eq!(rejected_by(30, &mesh), Vec::<String>::new());
}

#[test]
fn leaves_enum_values_of_unknown_minors_to_istiod() {
    let mesh = json!({"outboundTrafficPolicy": {"mode": "NEW"}, "accessLogFile": 5});
    assert_eq!(rejected_by(33, &mesh), ["accessLogFile: 5 is not a string; quote it"]);
    assert_eq!(rejected_by(32, &mesh).len(), 2);
}

#[test]
fn ignores_fields_that_a_minor_lacks() {
    let wrong_type = json!({"zoneAwareLbSetting": 5, "defaultConfig": {"connectionSettings": {"httpIdleTimeout": 5}}});
    let wrong_value = json!({"zone_aware_lb_setting": {"failoverPriority": ["topology.kubernetes.io/zone"]}});
    for mesh in [&wrong_type, &wrong_value] {
        assert_eq!(rejected_by(30, mesh), Vec::<String>::new());
        assert!(!rejected_by(31, mesh).is_empty(), "{mesh}");
    }
}
