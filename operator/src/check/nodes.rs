//! Nodes on which the mesh's pods don't run: Windows nodes and virtual nodes.

use super::input::CheckInput;
use super::snapshot::{ClusterSnapshot, ObjectInfo};
use super::{Finding, require};
use crate::mesh::node_placement::{OS_LABEL, VIRTUAL_NODES};
use crate::mesh::text::abbreviate;

const CHECK: &str = "nodes";

pub(super) fn findings(input: &CheckInput, cluster: &ClusterSnapshot) -> Vec<Finding> {
    let nodes = match require(CHECK, "nodes", &cluster.nodes) {
        Ok(nodes) => nodes,
        Err(unknown) => return unknown,
    };
    let windows = names(nodes, |node| node.label(OS_LABEL) == Some("windows"));
    let virtual_nodes = names(nodes, is_virtual);
    let mut findings = Vec::new();
    if !windows.is_empty() {
        let reason = format!("the mesh's pods run on Linux nodes only; not on {}", abbreviate(&windows));
        findings.push(Finding::pass(CHECK, "Windows nodes", reason));
    }
    if !virtual_nodes.is_empty() {
        findings.push(without_daemon_sets(input, &virtual_nodes));
    }
    if findings.is_empty() {
        findings.push(Finding::pass(CHECK, "nodes", "none is a Windows node or a virtual node"));
    }
    findings
}

fn names(nodes: &[ObjectInfo], belongs: impl Fn(&ObjectInfo) -> bool) -> Vec<&str> {
    nodes.iter().filter(|node| belongs(node)).map(|node| node.name.as_str()).collect()
}

fn is_virtual(node: &ObjectInfo) -> bool {
    VIRTUAL_NODES.iter().any(|(key, value)| node.label(key) == Some(*value))
}

fn without_daemon_sets(input: &CheckInput, names: &[&str]) -> Finding {
    let subject = format!("virtual nodes {}", abbreviate(names));
    if input.privileged.is_empty() {
        let reason =
            "don't allow NET_ADMIN, which the init container of sidecars requires; schedule meshed pods elsewhere";
        return Finding::pass(CHECK, subject, reason);
    }
    let reason = "run no DaemonSets, so istio-cni and ztunnel leave them out, and meshed pods don't work there";
    Finding::warn(CHECK, subject, reason)
        .fix("schedule the pods of the mesh on other nodes, or disable injection for them")
}

#[cfg(test)]
mod tests {
    use super::super::CheckVerdict;
    use super::super::samples::{self, meta};
    use super::*;

    fn finding(input: &CheckInput, key: &str, value: &str) -> Finding {
        let mut cluster = samples::cluster();
        cluster.nodes = Ok(vec![meta("Node", "", "node-1"), meta("Node", "", "node-2").labelled(key, value)]);
        let mut findings = findings(input, &cluster);
        assert_eq!(findings.len(), 1, "{findings:?}");
        findings.remove(0)
    }

    #[test]
    fn names_windows_nodes() {
        let found = finding(&samples::input(), OS_LABEL, "windows");
        assert_eq!((found.verdict, found.subject.as_str()), (CheckVerdict::Pass, "Windows nodes"));
        assert!(found.reason.ends_with("not on node-2"), "{}", found.reason);
        assert_eq!(finding(&samples::input(), OS_LABEL, "linux").subject, "nodes");
    }

    #[test]
    fn warns_of_virtual_nodes_only_with_daemon_sets() {
        let mut input = samples::input();
        assert_eq!(finding(&input, "type", "virtual-kubelet").verdict, CheckVerdict::Pass);
        input.privileged = ["istio-system".to_owned()].into();
        for (key, value) in [("type", "virtual-kubelet"), ("eks.amazonaws.com/compute-type", "fargate")] {
            let found = finding(&input, key, value);
            assert_eq!((found.verdict, found.subject.as_str()), (CheckVerdict::Warn, "virtual nodes node-2"));
        }
        assert_eq!(finding(&input, "eks.amazonaws.com/compute-type", "auto").subject, "nodes");
    }
}
