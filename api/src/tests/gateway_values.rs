//! Tests of the Service's fields that chart values set.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::Gateway;

fn gateway(fields: &Value) -> Gateway {
    let mut gateway = json!({"name": "edge"});
    for (key, value) in fields.as_object().unwrap() {
        gateway[key] = value.clone();
    }
    serde_json::from_value(gateway).unwrap()
}

fn typed(fields: &Value) -> Value {
    json!(*gateway(fields).with_service_of_values())
}

#[test]
fn reads_service_fields_from_values() {
    let service = json!({
        "type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{"name": "web", "port": 80, "nodePort": 30080}],
        "loadBalancerIP": "10.0.0.1",
    });
    let found = typed(&json!({"values": {"service": service, "env": {"A": "b"}}}));
    assert_eq!(found["service"]["type"], "NodePort");
    assert_eq!(found["service"]["externalTrafficPolicy"], "Local");
    assert_eq!(found["service"]["ports"][0]["nodePort"], 30080);
    assert_eq!(found["values"], json!({"service": {"loadBalancerIP": "10.0.0.1"}, "env": {"A": "b"}}));
    let only_type = typed(&json!({"values": {"service": {"type": "ClusterIP"}}}));
    assert_eq!((&only_type["service"]["type"], only_type.get("values")), (&json!("ClusterIP"), None));
}

#[test]
fn fields_of_spec_win_over_values() {
    let both = json!({"service": {"type": "ClusterIP"}, "values": {"service": {"type": "NodePort"}}});
    assert!(matches!(gateway(&both).with_service_of_values(), Cow::Borrowed(_)));
    assert!(matches!(gateway(&json!({"values": {"labels": {"a": "b"}}})).with_service_of_values(), Cow::Borrowed(_)));
}

#[test]
fn keeps_values_that_no_field_represents() {
    for service in [
        json!({"type": "Unknown"}),
        json!({"type": ""}),
        json!({"ports": []}),
        json!({"ports": [{"name": "web", "port": 80, "targetPort": "web"}]}),
        json!({"ports": [{"name": "web", "port": 80, "appProtocol": "http"}]}),
        json!({"nodePorts": {"http": 30080}}),
    ] {
        let values = json!({"values": {"service": service}});
        assert!(matches!(gateway(&values).with_service_of_values(), Cow::Borrowed(_)), "{values}");
    }
    let east_west = json!({"direction": "EastWest", "network": "n", "values": {"service": {"ports": [
        {"name": "tls", "port": 15443}]}}});
    assert!(matches!(gateway(&east_west).with_service_of_values(), Cow::Borrowed(_)));
}
