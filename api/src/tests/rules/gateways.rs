//! Rules of gateways and their Services.

use super::Case;

pub(super) const CASES: &[Case] = &[
    Case {
        message: "set the gateway's replicas or autoscaling, not both",
        passes: &["gateways: [{name: gw, replicas: 0}, {name: gw2, autoscaling: {max: 3}}]"],
        refuses: &["gateways: [{name: gw, replicas: 1, autoscaling: {max: 3}}]"],
    },
    Case {
        message: "a gateway's name must be a DNS label: lower-case letters, digits and '-', beginning with a letter",
        passes: &["gateways: [{name: istio-ingressgateway}]", "gateways: [{name: g}]"],
        refuses: &["gateways: [{name: 1gw}]", "gateways: [{name: gw.a}]", "gateways: [{name: gw-}]"],
    },
    Case {
        message: "base, cni, istiod, istio-base, istio-cni and ztunnel are names of other components; choose another name for the gateway",
        passes: &["gateways: [{name: istiod-gateway}]"],
        refuses: &["gateways: [{name: istiod}]", "gateways: [{name: ztunnel}]"],
    },
    Case {
        message: "a gateway's namespace must be a DNS label: lower-case letters, digits and '-'",
        passes: &["gateways: [{name: gw, namespace: edge}]", "gateways: [{name: gw}]"],
        refuses: &["gateways: [{name: gw, namespace: Edge}]"],
    },
    Case {
        message: "a nodePort needs a service of type NodePort or LoadBalancer; this gateway's is ClusterIP",
        passes: &[
            "gateways: [{name: gw, service: {type: NodePort, ports: [{name: a, port: 80, nodePort: 30401}]}}]",
            "gateways: [{name: gw, service: {ports: [{name: a, port: 80, nodePort: 30401}]}}]",
            "gateways: [{name: gw, direction: Egress, service: {ports: [{name: a, port: 80}]}}]",
        ],
        refuses: &[
            "gateways: [{name: gw, service: {type: ClusterIP, ports: [{name: a, port: 80, nodePort: 30401}]}}]",
            "gateways: [{name: gw, direction: Egress, service: {ports: [{name: a, port: 80, nodePort: 30401}]}}]",
        ],
    },
    Case {
        message: "externalTrafficPolicy needs a service of type NodePort or LoadBalancer; this gateway's is ClusterIP",
        passes: &[
            "gateways: [{name: gw, service: {externalTrafficPolicy: Local}}]",
            "gateways: [{name: gw, service: {type: NodePort, externalTrafficPolicy: Cluster}}]",
        ],
        refuses: &[
            "gateways: [{name: gw, service: {type: ClusterIP, externalTrafficPolicy: Local}}]",
            "gateways: [{name: gw, direction: Egress, service: {externalTrafficPolicy: Local}}]",
        ],
    },
    Case {
        message: "loadBalancerClass, loadBalancerSourceRanges and allocateLoadBalancerNodePorts need a service of type LoadBalancer",
        passes: &[
            "gateways: [{name: gw, service: {loadBalancerClass: a, allocateLoadBalancerNodePorts: false}}]",
            "gateways: [{name: gw, direction: Egress, service: {type: LoadBalancer, loadBalancerClass: a}}]",
        ],
        refuses: &[
            "gateways: [{name: gw, service: {type: NodePort, loadBalancerClass: a}}]",
            "gateways: [{name: gw, service: {type: NodePort, loadBalancerSourceRanges: [10.0.0.0/8]}}]",
            "gateways: [{name: gw, direction: Egress, service: {allocateLoadBalancerNodePorts: false}}]",
        ],
    },
    Case {
        message: "two ports of a gateway have the same port and protocol",
        passes: &[
            "gateways: [{name: gw, service: {ports: [{name: a, port: 443}, {name: b, port: 443, protocol: UDP}]}}]",
            "gateways: [{name: gw, service: {ports: [{name: a, port: 80}]}}, {name: gw2, service: {ports: [{name: a, port: 80}]}}]",
        ],
        refuses: &["gateways: [{name: gw, service: {ports: [{name: a, port: 80}, {name: b, port: 80}]}}]"],
    },
    Case {
        message: "two ports of a gateway ask for the same nodePort",
        passes: &[
            "gateways: [{name: gw, service: {ports: [{name: a, port: 80, nodePort: 30401}, {name: b, port: 81, nodePort: 30402}, {name: c, port: 82}]}}]",
            "gateways: [{name: gw, service: {ports: [{name: a, port: 443, nodePort: 30401}, {name: b, port: 443, nodePort: 30401, protocol: UDP}]}}]",
        ],
        refuses: &[
            "gateways: [{name: gw, service: {ports: [{name: a, port: 80, nodePort: 30401}, {name: b, port: 81, nodePort: 30401}]}}]",
        ],
    },
    Case {
        message: "loadBalancerSourceRanges must be a list of CIDRs such as 10.0.0.0/8",
        passes: &["gateways: [{name: gw, service: {loadBalancerSourceRanges: [203.0.113.0/24, '2001:db8::/32']}}]"],
        refuses: &["gateways: [{name: gw, service: {loadBalancerSourceRanges: [203.0.113.7]}}]"],
    },
    Case {
        message: "loadBalancerClass must be a name such as internal-vip or example.com/internal-vip",
        passes: &[
            "gateways: [{name: a, service: {loadBalancerClass: internal-vip}}]",
            "gateways: [{name: a, service: {loadBalancerClass: service.k8s.aws/nlb}}]",
        ],
        refuses: &[
            "gateways: [{name: a, service: {loadBalancerClass: 'a: b'}}]",
            "gateways: [{name: a, service: {loadBalancerClass: a/b/c}}]",
        ],
    },
    Case {
        message: "an EastWest gateway needs network, and no other gateway has one",
        passes: &["gateways: [{name: a, direction: EastWest, network: network1}]", "gateways: [{name: a}]"],
        refuses: &["gateways: [{name: a, direction: EastWest}]", "gateways: [{name: a, network: network1}]"],
    },
    Case {
        message: "an EastWest gateway has the ports status-port, tls, tls-istiod and tls-webhook and no others",
        passes: &[
            "gateways: [{name: a, direction: EastWest, network: network1, service: {ports: [{name: tls, port: 15443}]}}]",
            "gateways: [{name: a, service: {ports: [{name: http2, port: 80}]}}]",
        ],
        refuses: &[
            "gateways: [{name: a, direction: EastWest, network: network1, service: {ports: [{name: http2, port: 80}]}}]",
        ],
    },
    Case {
        message: "requireAddress needs a service of type LoadBalancer: other types wait for no address",
        passes: &[
            "gateways: [{name: a, requireAddress: true}]",
            "gateways: [{name: a, requireAddress: false, service: {type: NodePort}}]",
        ],
        refuses: &[
            "gateways: [{name: a, requireAddress: true, service: {type: NodePort}}]",
            "gateways: [{name: a, requireAddress: true, direction: Egress}]",
        ],
    },
];
