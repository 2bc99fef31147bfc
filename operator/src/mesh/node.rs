//! Nodes, reduced to the addresses by which their node ports are reached. What they show of the platform is another
//! matter: [`crate::platform`].

use k8s_openapi::api::core::v1::Node;

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Types and addresses, in the node's own order of preference.
    pub addresses: Vec<(String, String)>,
    /// Its kubelet says that it works, and pods may be scheduled to it.
    pub ready: bool,
}

/// Nodes named in a gateway's addresses: one may go away while somebody uses it.
const SHOWN: usize = 3;

impl NodeFacts {
    /// Reduces a node.
    #[must_use]
    pub fn of(node: Node) -> Self {
        let (spec, status) = (node.spec.unwrap_or_default(), node.status.unwrap_or_default());
        let healthy = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
        let addresses = status.addresses.into_iter().flatten().map(|address| (address.type_, address.address));
        Self {
            name: node.metadata.name.unwrap_or_default(),
            addresses: addresses.collect(),
            ready: healthy && !spec.unschedulable.unwrap_or_default(),
        }
    }

    fn address(&self, type_: &str) -> Option<&str> {
        self.addresses.iter().find(|(of, _)| of == type_).map(|(_, address)| address.as_str())
    }
}

/// The addresses by which node ports are reached: those of a few ready nodes, from outside the cluster's network where
/// any node has such an address.
#[must_use]
pub fn node_addresses(nodes: &[NodeFacts]) -> Vec<String> {
    let mut ready: Vec<&NodeFacts> = nodes.iter().filter(|node| node.ready).collect();
    ready.sort_by(|a, b| a.name.cmp(&b.name));
    let of_type = |type_: &str| -> Vec<String> {
        ready.iter().filter_map(|node| node.address(type_)).take(SHOWN).map(str::to_owned).collect()
    };
    let external = of_type("ExternalIP");
    if external.is_empty() { of_type("InternalIP") } else { external }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, ready: &str, addresses: &[(&str, &str)]) -> NodeFacts {
        let addresses: Vec<Value> = addresses.iter().map(|(t, a)| json!({"type": t, "address": a})).collect();
        let node = json!({
            "metadata": {"name": name},
            "status": {"addresses": addresses, "conditions": [{"type": "Ready", "status": ready}]},
        });
        NodeFacts::of(serde_json::from_value(node).unwrap())
    }

    #[test]
    fn a_node_is_known_by_name_addresses_and_readiness() {
        let facts = node("a", "True", &[("InternalIP", "10.0.0.1"), ("Hostname", "a")]);
        let addresses = [("InternalIP", "10.0.0.1"), ("Hostname", "a")].map(|(t, a)| (t.to_owned(), a.to_owned()));
        assert_eq!(facts, NodeFacts { name: "a".into(), addresses: addresses.into(), ready: true });
        assert_eq!(NodeFacts::of(Node::default()), NodeFacts::default());
    }

    #[test]
    fn external_addresses_go_before_internal_ones_and_names_are_none() {
        let inside = node("a", "True", &[("Hostname", "a"), ("InternalIP", "10.0.0.1")]);
        let outside = node("b", "True", &[("InternalIP", "10.0.0.2"), ("ExternalIP", "203.0.113.2")]);
        assert_eq!(node_addresses(&[inside.clone(), outside]), ["203.0.113.2"]);
        assert_eq!(node_addresses(&[inside]), ["10.0.0.1"]);
        assert_eq!(node_addresses(&[node("c", "True", &[("Hostname", "c")])]), [""; 0]);
    }

    #[test]
    fn a_few_ready_nodes_are_shown_whatever_order_they_come_in() {
        let nodes: Vec<NodeFacts> = [("d", "True"), ("c", "True"), ("b", "False"), ("a", "True"), ("e", "True")]
            .map(|(name, ready)| node(name, ready, &[("InternalIP", name)]))
            .into();
        assert_eq!(node_addresses(&nodes), ["a", "c", "d"]);
    }
}
