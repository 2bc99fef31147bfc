//! Test cases of the rules for gateways and their Services.

use super::RuleCase;

pub(super) const CASES: &[RuleCase] = &[
    RuleCase {
        message: "the gateway's replicas and autoscaling are mutually exclusive; set only one of them",
        accepted: &["gateways: [{name: gw, replicas: 0}, {name: gw2, autoscaling: {maxReplicas: 3}}]"],
        rejected: &["gateways: [{name: gw, replicas: 1, autoscaling: {maxReplicas: 3}}]"],
    },
    RuleCase {
        message: "a gateway's name must be a DNS label that starts with a letter: lowercase letters, digits and '-'",
        accepted: &["gateways: [{name: istio-ingressgateway}]", "gateways: [{name: g}]"],
        rejected: &["gateways: [{name: 1gw}]", "gateways: [{name: gw.a}]", "gateways: [{name: gw-}]"],
    },
    RuleCase {
        message: "a gateway's name must not be base, cni, istiod, istio-base, istio-cni or ztunnel: these are names of other components",
        accepted: &["gateways: [{name: istiod-gateway}]"],
        rejected: &["gateways: [{name: istiod}]", "gateways: [{name: ztunnel}]"],
    },
    RuleCase {
        message: "a gateway's namespace must be a DNS label: lowercase letters, digits and '-'",
        accepted: &["gateways: [{name: gw, namespace: edge}]", "gateways: [{name: gw}]"],
        rejected: &["gateways: [{name: gw, namespace: Edge}]"],
    },
    RuleCase {
        message: "nodePort requires service.type NodePort or LoadBalancer; this gateway's Service has type ClusterIP",
        accepted: &[
            "gateways: [{name: gw, service: {type: NodePort, ports: [{name: a, port: 80, nodePort: 30401}]}}]",
            "gateways: [{name: gw, service: {ports: [{name: a, port: 80, nodePort: 30401}]}}]",
            "gateways: [{name: gw, direction: Egress, service: {ports: [{name: a, port: 80}]}}]",
        ],
        rejected: &[
            "gateways: [{name: gw, service: {type: ClusterIP, ports: [{name: a, port: 80, nodePort: 30401}]}}]",
            "gateways: [{name: gw, direction: Egress, service: {ports: [{name: a, port: 80, nodePort: 30401}]}}]",
        ],
    },
    RuleCase {
        message: "externalTrafficPolicy requires service.type NodePort or LoadBalancer; this gateway's Service has type ClusterIP",
        accepted: &[
            "gateways: [{name: gw, service: {externalTrafficPolicy: Local}}]",
            "gateways: [{name: gw, service: {type: NodePort, externalTrafficPolicy: Cluster}}]",
        ],
        rejected: &[
            "gateways: [{name: gw, service: {type: ClusterIP, externalTrafficPolicy: Local}}]",
            "gateways: [{name: gw, direction: Egress, service: {externalTrafficPolicy: Local}}]",
        ],
    },
    RuleCase {
        message: "ports, annotations and externalTrafficPolicy require a Service; this gateway has service.type None",
        accepted: &[
            "gateways: [{name: gw, service: {type: None}}]",
            "gateways: [{name: gw, direction: Egress, service: {type: None}}]",
            "gateways: [{name: gw, direction: EastWest, network: network1, service: {type: None}}]",
            "gateways: [{name: gw, service: {annotations: {example.com/a: b}}}]",
        ],
        rejected: &[
            "gateways: [{name: gw, service: {type: None, ports: [{name: a, port: 80}]}}]",
            "gateways: [{name: gw, service: {type: None, ports: [{name: a, port: 80, nodePort: 30401}]}}]",
            "gateways: [{name: gw, service: {type: None, annotations: {example.com/a: b}}}]",
            "gateways: [{name: gw, service: {type: None, externalTrafficPolicy: Local}}]",
        ],
    },
    RuleCase {
        message: "loadBalancerClass, loadBalancerSourceRanges and allocateLoadBalancerNodePorts require service.type LoadBalancer",
        accepted: &[
            "gateways: [{name: gw, service: {loadBalancerClass: a, allocateLoadBalancerNodePorts: false}}]",
            "gateways: [{name: gw, direction: Egress, service: {type: LoadBalancer, loadBalancerClass: a}}]",
        ],
        rejected: &[
            "gateways: [{name: gw, service: {type: NodePort, loadBalancerClass: a}}]",
            "gateways: [{name: gw, service: {type: NodePort, loadBalancerSourceRanges: [10.0.0.0/8]}}]",
            "gateways: [{name: gw, direction: Egress, service: {allocateLoadBalancerNodePorts: false}}]",
            "gateways: [{name: gw, service: {type: None, loadBalancerClass: a}}]",
        ],
    },
    RuleCase {
        message: "the ports of a gateway must be unique: two ports have the same port and protocol",
        accepted: &[
            "gateways: [{name: gw, service: {ports: [{name: a, port: 443}, {name: b, port: 443, protocol: UDP}]}}]",
            "gateways: [{name: gw, service: {ports: [{name: a, port: 80}]}}, {name: gw2, service: {ports: [{name: a, port: 80}]}}]",
        ],
        rejected: &["gateways: [{name: gw, service: {ports: [{name: a, port: 80}, {name: b, port: 80}]}}]"],
    },
    RuleCase {
        message: "the node ports of a gateway must be unique: two ports have the same nodePort and protocol",
        accepted: &[
            "gateways: [{name: gw, service: {ports: [{name: a, port: 80, nodePort: 30401}, {name: b, port: 81, nodePort: 30402}, {name: c, port: 82}]}}]",
            "gateways: [{name: gw, service: {ports: [{name: a, port: 443, nodePort: 30401}, {name: b, port: 443, nodePort: 30401, protocol: UDP}]}}]",
        ],
        rejected: &[
            "gateways: [{name: gw, service: {ports: [{name: a, port: 80, nodePort: 30401}, {name: b, port: 81, nodePort: 30401}]}}]",
        ],
    },
    RuleCase {
        message: "loadBalancerSourceRanges must be a list of CIDRs such as 10.0.0.0/8",
        accepted: &["gateways: [{name: gw, service: {loadBalancerSourceRanges: [203.0.113.0/24, '2001:db8::/32']}}]"],
        rejected: &["gateways: [{name: gw, service: {loadBalancerSourceRanges: [203.0.113.7]}}]"],
    },
    RuleCase {
        message: "loadBalancerClass must be a name with an optional prefix, such as internal-vip or example.com/internal-vip",
        accepted: &[
            "gateways: [{name: a, service: {loadBalancerClass: internal-vip}}]",
            "gateways: [{name: a, service: {loadBalancerClass: service.k8s.aws/nlb}}]",
        ],
        rejected: &[
            "gateways: [{name: a, service: {loadBalancerClass: 'a: b'}}]",
            "gateways: [{name: a, service: {loadBalancerClass: a/b/c}}]",
        ],
    },
    RuleCase {
        message: "network is required with direction EastWest and not allowed with other directions",
        accepted: &["gateways: [{name: a, direction: EastWest, network: network1}]", "gateways: [{name: a}]"],
        rejected: &["gateways: [{name: a, direction: EastWest}]", "gateways: [{name: a, network: network1}]"],
    },
    RuleCase {
        message: "a gateway with direction EastWest can only have the ports status-port, tls, tls-istiod and tls-webhook",
        accepted: &[
            "gateways: [{name: a, direction: EastWest, network: network1, service: {ports: [{name: tls, port: 15443}]}}]",
            "gateways: [{name: a, service: {ports: [{name: http2, port: 80}]}}]",
        ],
        rejected: &[
            "gateways: [{name: a, direction: EastWest, network: network1, service: {ports: [{name: http2, port: 80}]}}]",
        ],
    },
    RuleCase {
        message: "requireAddress requires service.type LoadBalancer; Services of other types get no address",
        accepted: &[
            "gateways: [{name: a, requireAddress: true}]",
            "gateways: [{name: a, requireAddress: false, service: {type: NodePort}}]",
        ],
        rejected: &[
            "gateways: [{name: a, requireAddress: true, service: {type: NodePort}}]",
            "gateways: [{name: a, requireAddress: true, direction: Egress}]",
            "gateways: [{name: a, requireAddress: true, service: {type: None}}]",
        ],
    },
];
