//! The ports that the operator chooses from, in the order of preference, and the ports that it never chooses.
//!
//! A range outside of Kubernetes' default, such as 1-65535, is set for the sake of explicit node ports. It includes
//! ports on which programs of the nodes listen, and the ports of outgoing connections, which Linux takes from
//! 32768-60999 by default. kube-proxy would redirect their traffic to a gateway.

use super::range::PortRange;

/// The first port that programs without privileges can listen on.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// Ports from [`FIRST_UNPRIVILEGED`] on that are in use on many nodes, with what listens there.
const PORTS_OF_NODES: [(u16, u16, &str); 26] = [
    (2379, 2381, "etcd: clients, peers, metrics"),
    (3389, 3389, "Windows: remote desktop"),
    (4240, 4240, "Cilium: health checks"),
    (4244, 4245, "Cilium: Hubble"),
    (4789, 4789, "VXLAN: Calico, Antrea, Windows"),
    (5473, 5473, "Calico: Typha"),
    (5985, 5986, "Windows: remote management"),
    (6081, 6081, "Geneve: OVN-Kubernetes, Antrea"),
    (6443, 6443, "Kubernetes API server"),
    (6781, 6784, "Weave Net"),
    (7472, 7473, "MetalLB: metrics"),
    (7946, 7946, "MetalLB: memberlist"),
    (8443, 8443, "Kubernetes API server of minikube"),
    (8472, 8472, "VXLAN: Flannel, Cilium"),
    (9091, 9091, "Calico: metrics"),
    (9099, 9099, "Calico: health of Felix"),
    (9100, 9100, "Prometheus node exporter"),
    (9153, 9153, "CoreDNS: metrics"),
    (9345, 9345, "RKE2: supervisor"),
    (9878, 9879, "Cilium: health of Envoy and of the agent"),
    (9890, 9893, "Cilium: debugging, operator, peers"),
    (9962, 9965, "Cilium: metrics"),
    (10248, 10259, "kubelet, kube-proxy, controller manager, scheduler, cloud controller manager"),
    (16443, 16443, "Kubernetes API server of MicroK8s"),
    (50000, 50001, "Talos: apid and trustd"),
    (51820, 51821, "WireGuard: Calico, Cilium, Flannel"),
];

/// Returns whether programs of the nodes need a port, so that it is only used when the spec names it.
#[must_use]
pub(super) fn is_port_of_nodes(port: u16) -> bool {
    port < FIRST_UNPRIVILEGED || PORTS_OF_NODES.iter().any(|(first, last, _)| (*first..=*last).contains(&port))
}

/// Returns the ports of a range that the operator may choose: those in Kubernetes' default range in ascending order,
/// then the others from the highest down.
pub(super) fn candidates(range: PortRange) -> impl Iterator<Item = u16> {
    let usual = range.intersection(PortRange::KUBERNETES);
    let others = range.ports().rev().filter(|port| !PortRange::KUBERNETES.contains(*port));
    usual.into_iter().flat_map(PortRange::ports).chain(others).filter(|port| !is_port_of_nodes(*port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(range: &str, number: usize) -> Vec<u16> {
        candidates(range.parse().unwrap()).take(number).collect()
    }

    #[test]
    fn prefers_kubernetes_default_range() {
        assert_eq!(first("1-65535", 2), [30000, 30001]);
        assert_eq!(first("30400-30449", 2), [30400, 30401]);
        assert_eq!(first("32766-40000", 4), [32766, 32767, 40000, 39999]);
    }

    #[test]
    fn unusual_range_is_used_from_its_end() {
        assert_eq!(first("80-2382", 2), [2382, 2378]);
        assert_eq!(first("40000-50002", 2), [50002, 49999]);
    }

    #[test]
    fn never_chooses_ports_of_nodes() {
        assert!(first("1-1023", 1).is_empty());
        let all: Vec<u16> = candidates("1-65535".parse().unwrap()).collect();
        for port in [22, 80, 179, 443, 1023, 2379, 2380, 4240, 4789, 6443, 8472, 9099, 9100, 10248, 10250, 10259] {
            assert!(!all.contains(&port), "{port}");
        }
        assert!(all.contains(&1024) && all.contains(&65535));
    }

    #[test]
    fn default_range_has_no_ports_of_nodes() {
        assert!(!PortRange::KUBERNETES.ports().any(is_port_of_nodes), "pins of existing meshes would change");
        assert!(PORTS_OF_NODES.is_sorted_by_key(|(first, ..)| *first));
    }
}
