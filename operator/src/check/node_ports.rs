//! The node port range, its free ports, and the ports of the gateways.

use std::collections::BTreeSet;

use meshwright_api::conditions::Reason;

use super::input::CheckInput;
use super::snapshot::{ClusterSnapshot, NodePortUsage};
use super::{Finding, require};
use crate::mesh::text::abbreviate;
use crate::nodeports::{PortRange, RangeDiscovery};

const CHECK: &str = "node-ports";

/// Whether this check reports a rejection with this reason.
pub(super) const fn is_node_port_reason(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NodePortOutOfRange | Reason::NodePortReserved | Reason::NodePortInUse | Reason::NodePortsExhausted
    )
}

pub(super) fn findings(input: &CheckInput, cluster: &ClusterSnapshot) -> Vec<Finding> {
    let ports = match require(CHECK, "node port range", &cluster.node_ports) {
        Ok(ports) => ports,
        Err(unknown) => return unknown,
    };
    std::iter::once(range(ports)).chain(gateway_ports(input)).collect()
}

fn range(ports: &NodePortUsage) -> Finding {
    let subject = "node port range";
    match &ports.range {
        RangeDiscovery::Known(range) => {
            let used_ports: BTreeSet<u16> =
                ports.used_ports.iter().map(|used| used.port).filter(|port| range.contains(*port)).collect();
            let free = range.size() - used_ports.len();
            let chosen = range.intersection(PortRange::KUBERNETES).filter(|chosen| chosen != range);
            let chosen = chosen.map(|chosen| format!("; the operator chooses from {chosen} first")).unwrap_or_default();
            Finding::pass(CHECK, subject, format!("{range}, {free} of {} ports are free{chosen}", range.size()))
        }
        RangeDiscovery::Unknown(reason) => {
            let usual = PortRange::KUBERNETES;
            let reason = format!("unknown ({reason}); the operator assumes the platform's default range or {usual}");
            Finding::unknown(CHECK, subject, reason).fix("set spec.nodePorts.range to the range of your cluster")
        }
    }
}

/// The allocated node ports, or the reason why allocation would fail.
fn gateway_ports(input: &CheckInput) -> Option<Finding> {
    match input.installation.as_ref()? {
        Ok(_) if input.node_ports.is_empty() => None,
        Ok(_) => {
            let reason = format!("available: {}", abbreviate(&input.node_ports));
            Some(Finding::pass(CHECK, "node ports of the gateways", reason))
        }
        Err(blocker) if is_node_port_reason(blocker.reason) => {
            let finding = Finding::fail(CHECK, "node ports of the gateways", &blocker.message);
            Some(finding.fix("change spec.nodePorts or the gateways' ports"))
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CheckVerdict, samples};
    use super::*;
    use crate::mesh::health::Blocker;
    use crate::nodeports::{PortKey, UsedPort};

    fn used(port: u16, port_name: &str) -> UsedPort {
        let key = PortKey { namespace: "shop".into(), service: "api".into(), port_name: port_name.into() };
        UsedPort { port, key, own: false }
    }

    #[test]
    fn counts_free_ports_in_range() {
        let mut cluster = samples::cluster();
        let range = RangeDiscovery::Known("30400-30449".parse().unwrap());
        let taken = vec![used(30431, "tcp"), used(30431, "udp"), used(31000, "old")];
        cluster.node_ports = Ok(NodePortUsage { range, used_ports: taken });
        let found = findings(&samples::input(), &cluster);
        assert_eq!(
            (found[0].verdict, found[0].reason.as_str()),
            (CheckVerdict::Pass, "30400-30449, 49 of 50 ports are free")
        );
        let range = RangeDiscovery::Known("1-65535".parse().unwrap());
        cluster.node_ports = Ok(NodePortUsage { range, used_ports: vec![] });
        let found = findings(&samples::input(), &cluster);
        assert_eq!(
            found[0].reason,
            "1-65535, 65535 of 65535 ports are free; the operator chooses from 30000-32767 first"
        );
    }

    #[test]
    fn undetected_range_is_unknown() {
        let mut cluster = samples::cluster();
        cluster.node_ports =
            Ok(NodePortUsage { range: RangeDiscovery::Unknown("forbidden".into()), used_ports: vec![] });
        let found = findings(&samples::input(), &cluster);
        assert_eq!(found[0].verdict, CheckVerdict::Unknown);
        assert!(found[0].reason.contains("forbidden") && found[0].fix.is_some());
    }

    #[test]
    fn reports_gateway_ports_or_allocation_failure() {
        let mut input = samples::input();
        input.node_ports = vec!["30401 for edge/ingress/http2".into()];
        assert!(gateway_ports(&input).is_some_and(|f| f.verdict == CheckVerdict::Pass && f.reason.contains("30401")));
        let rejected =
            |reason| Some(Err(Blocker { reason, message: "30401 is used by port tcp of Service shop/api".into() }));
        input.installation = rejected(Reason::NodePortInUse);
        assert!(
            gateway_ports(&input).is_some_and(|f| f.verdict == CheckVerdict::Fail && f.reason.contains("shop/api"))
        );
        input.installation = rejected(Reason::InvalidSpec);
        assert_eq!(gateway_ports(&input), None);
    }
}
