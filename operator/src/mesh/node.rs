//! Nodes, reduced to the addresses at which their node ports are reachable. Platform detection reads nodes separately,
//! in [`crate::platform`].

use k8s_openapi::api::core::v1::Node;

/// The state of a node that matters for node ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeAddresses {
    /// Name of the Node, by which addresses are sorted.
    pub name: String,
    /// Address types and addresses, in the order of the node's status.
    pub addresses: Vec<(String, String)>,
    /// The condition `Ready` is True, and the node is schedulable.
    pub ready: bool,
}

/// Number of nodes listed in a gateway's addresses: more than one, since a node may be removed while clients use it.
const LISTED_NODES: usize = 3;

impl NodeAddresses {
    /// Extracts the relevant state from a Node.
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
        self.addresses.iter().find(|(of_type, _)| of_type == type_).map(|(_, address)| address.as_str())
    }
}

/// The addresses at which node ports are reachable: those of a few ready nodes, external ones if any node has one.
#[must_use]
pub fn node_addresses(nodes: &[NodeAddresses]) -> Vec<String> {
    let mut ready: Vec<&NodeAddresses> = nodes.iter().filter(|node| node.ready).collect();
    ready.sort_by(|a, b| a.name.cmp(&b.name));
    let of_type = |type_: &str| -> Vec<String> {
        ready.iter().filter_map(|node| node.address(type_)).take(LISTED_NODES).map(str::to_owned).collect()
    };
    let external = of_type("ExternalIP");
    if external.is_empty() { of_type("InternalIP") } else { external }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, ready: &str, addresses: &[(&str, &str)]) -> NodeAddresses {
        let addresses: Vec<Value> = addresses.iter().map(|(t, a)| json!({"type": t, "address": a})).collect();
        let node = json!({
            "metadata": {"name": name},
            "status": {"addresses": addresses, "conditions": [{"type": "Ready", "status": ready}]},
        });
        NodeAddresses::of(serde_json::from_value(node).unwrap())
    }

    #[test]
    fn extracts_name_addresses_and_readiness() {
        let node = node("a", "True", &[("InternalIP", "10.0.0.1"), ("Hostname", "a")]);
        let addresses = [("InternalIP", "10.0.0.1"), ("Hostname", "a")].map(|(t, a)| (t.to_owned(), a.to_owned()));
        assert_eq!(node, NodeAddresses { name: "a".into(), addresses: addresses.into(), ready: true });
        assert_eq!(NodeAddresses::of(Node::default()), NodeAddresses::default());
    }

    #[test]
    fn prefers_external_over_internal_addresses() {
        let inside = node("a", "True", &[("Hostname", "a"), ("InternalIP", "10.0.0.1")]);
        let outside = node("b", "True", &[("InternalIP", "10.0.0.2"), ("ExternalIP", "203.0.113.2")]);
        assert_eq!(node_addresses(&[inside.clone(), outside]), ["203.0.113.2"]);
        assert_eq!(node_addresses(&[inside]), ["10.0.0.1"]);
        assert_eq!(node_addresses(&[node("c", "True", &[("Hostname", "c")])]), [""; 0]);
    }

    #[test]
    fn lists_first_ready_nodes_by_name() {
        let nodes: Vec<NodeAddresses> = [("d", "True"), ("c", "True"), ("b", "False"), ("a", "True"), ("e", "True")]
            .map(|(name, ready)| node(name, ready, &[("InternalIP", name)]))
            .into();
        assert_eq!(node_addresses(&nodes), ["a", "c", "d"]);
    }
}
