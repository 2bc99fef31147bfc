//! Fields of a gateway's Service that are set by the values of Istio's `gateway` chart instead.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{FreeForm, Gateway, GatewayDirection, GatewayPort};

/// The keys of a port in the chart's `service.ports` that have a field in [`GatewayPort`].
const PORT_KEYS: [&str; 5] = ["name", "port", "targetPort", "nodePort", "protocol"];

impl Gateway {
    /// The gateway with the fields of `service` that only `values.service` sets: node ports and platforms depend on
    /// them. Values that no field can represent, or that another field contradicts, remain in `values`.
    #[must_use]
    pub fn with_service_of_values(&self) -> Cow<'_, Self> {
        let Some(Value::Object(values)) = self.values.0.get("service") else { return Cow::Borrowed(self) };
        let mut rest = values.clone();
        let mut service = self.service.clone();
        take(&mut service.type_, &mut rest, "type");
        take(&mut service.load_balancer_class, &mut rest, "loadBalancerClass");
        take(&mut service.external_traffic_policy, &mut rest, "externalTrafficPolicy");
        take(&mut service.allocate_load_balancer_node_ports, &mut rest, "allocateLoadBalancerNodePorts");
        take_list(&mut service.load_balancer_source_ranges, &mut rest, "loadBalancerSourceRanges");
        // The chart has other ports for east-west gateways.
        if self.direction != GatewayDirection::EastWest && rest.get("ports").is_some_and(are_ports) {
            take_list::<GatewayPort>(&mut service.ports, &mut rest, "ports");
        }
        if rest.len() == values.len() {
            return Cow::Borrowed(self);
        }
        let mut values = self.values.0.clone();
        if rest.is_empty() {
            values.remove("service");
        } else {
            values.insert("service".to_owned(), Value::Object(rest));
        }
        Cow::Owned(Self { service, values: FreeForm(values), ..self.clone() })
    }
}

fn take<T: DeserializeOwned>(field: &mut Option<T>, values: &mut Map<String, Value>, key: &str) {
    if field.is_none()
        && let Some(value) = values.get(key).filter(|value| !is_unset(value))
        && let Ok(value) = serde_json::from_value(value.clone())
    {
        *field = Some(value);
        values.remove(key);
    }
}

fn take_list<T: DeserializeOwned>(field: &mut Vec<T>, values: &mut Map<String, Value>, key: &str) {
    if field.is_empty()
        && let Some(value) = values.get(key).filter(|value| !is_unset(value))
        && let Ok(value) = serde_json::from_value(value.clone())
    {
        *field = value;
        values.remove(key);
    }
}

/// The charts treat an empty text or list like an absent one.
fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn are_ports(value: &Value) -> bool {
    let is_port =
        |port: &Value| port.as_object().is_some_and(|port| port.keys().all(|key| PORT_KEYS.contains(&key.as_str())));
    value.as_array().is_some_and(|ports| ports.iter().all(is_port))
}
