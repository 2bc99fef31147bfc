//! Node ports: the range, how many of it are free, and whether the gateways get what they want.

use std::collections::BTreeSet;

use meshwright_api::conditions::Reason;

use super::asked::Asked;
use super::cluster::{Cluster, NodePorts};
use super::{Finding, look};
use crate::mesh::words::few;
use crate::nodeports::{Discovery, PortRange};

const CHECK: &str = "node-ports";

/// Whether a refusal of an installation is about node ports, which is told here.
pub(super) const fn is_about_ports(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NodePortOutOfRange | Reason::NodePortReserved | Reason::NodePortTaken | Reason::NodePortsExhausted
    )
}

pub(super) fn findings(asked: &Asked, cluster: &Cluster) -> Vec<Finding> {
    let ports = match look(CHECK, "node ports of the API server", &cluster.node_ports) {
        Ok(ports) => ports,
        Err(unknown) => return unknown,
    };
    std::iter::once(range(ports)).chain(wanted(asked)).collect()
}

fn range(ports: &NodePorts) -> Finding {
    let subject = "the API server's range";
    match &ports.range {
        Discovery::Told(range) => {
            let held: BTreeSet<u16> =
                ports.held.iter().map(|held| held.port).filter(|port| range.contains(*port)).collect();
            let free = range.size() - held.len();
            Finding::pass(CHECK, subject, format!("is {range}; {free} of {} are free", range.size()))
        }
        Discovery::Unknown(why) => {
            let usual = PortRange::KUBERNETES;
            let reason =
                format!("is not known: {why}; the platform's or else Kubernetes' usual one, {usual}, is assumed");
            Finding::unknown(CHECK, subject, reason).fix("set spec.nodePorts.range to what the cluster's maker says")
        }
    }
}

/// What the operator would choose, or why it couldn't.
fn wanted(asked: &Asked) -> Option<Finding> {
    match asked.installation.as_ref()? {
        Ok(_) if asked.node_ports.is_empty() => None,
        Ok(_) => {
            let reason = format!("can have the node ports that they want: {}", few(&asked.node_ports));
            Some(Finding::pass(CHECK, "the gateways", reason))
        }
        Err(blocker) if is_about_ports(blocker.reason) => {
            let finding = Finding::fail(CHECK, "the gateways", &blocker.message);
            Some(finding.fix("change spec.nodePorts or the gateways' ports as the reason says"))
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Verdict, samples};
    use super::*;
    use crate::mesh::health::Blocker;
    use crate::nodeports::{Held, Slot};

    fn held(port: u16, port_name: &str) -> Held {
        let slot = Slot { namespace: "shop".into(), service: "api".into(), port_name: port_name.into() };
        Held { port, slot, ours: false }
    }

    #[test]
    fn free_ports_are_counted_once_each_and_only_inside_the_range() {
        let mut cluster = samples::cluster();
        let range = Discovery::Told("30400-30449".parse().unwrap());
        let taken = vec![held(30431, "tcp"), held(30431, "udp"), held(31000, "old")];
        cluster.node_ports = Ok(NodePorts { range, held: taken });
        let found = findings(&samples::asked(), &cluster);
        assert_eq!((found[0].verdict, found[0].reason.as_str()), (Verdict::Pass, "is 30400-30449; 49 of 50 are free"));
    }

    #[test]
    fn a_range_that_the_server_keeps_to_itself_is_unknown() {
        let mut cluster = samples::cluster();
        cluster.node_ports = Ok(NodePorts { range: Discovery::Unknown("forbidden".into()), held: vec![] });
        let found = findings(&samples::asked(), &cluster);
        assert_eq!(found[0].verdict, Verdict::Unknown);
        assert!(found[0].reason.contains("forbidden") && found[0].fix.is_some());
    }

    #[test]
    fn what_gateways_get_is_told_and_what_they_cannot_get_fails_in_the_operators_words() {
        let mut asked = samples::asked();
        asked.node_ports = vec!["30401 for edge/ingress/http2".into()];
        assert!(wanted(&asked).is_some_and(|f| f.verdict == Verdict::Pass && f.reason.contains("30401")));
        let refused = |reason| Some(Err(Blocker { reason, message: "30401 is held by Service shop/api/tcp".into() }));
        asked.installation = refused(Reason::NodePortTaken);
        assert!(wanted(&asked).is_some_and(|f| f.verdict == Verdict::Fail && f.reason.contains("shop/api/tcp")));
        asked.installation = refused(Reason::InvalidSpec);
        assert_eq!(wanted(&asked), None);
    }
}
