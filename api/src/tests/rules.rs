//! Every CEL rule, both ways.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{complaints, installation, schema};
use crate::version::VersionRequest;

/// A rule, by its message, with specs that it lets pass and specs that it alone refuses.
struct Case {
    message: &'static str,
    passes: &'static [&'static str],
    refuses: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        message: "write the version without a leading v, for example 1.31 or 1.31.2",
        passes: &["version: '1.31'"],
        refuses: &["version: v1.31", "version: V1.31.2"],
    },
    Case {
        message: "version must be a minor such as 1.31, a release such as 1.31.2, or a pre-release such as 1.32.0-alpha.1",
        passes: &["version: 1.31.2", "version: 1.32.0-alpha.eed52ebb66ad"],
        refuses: &["version: latest", "version: '1'", "version: 1.031.0"],
    },
    Case {
        message: "namespace must be a DNS label: lower-case letters, digits and '-'",
        passes: &["namespace: istio-system", "namespace: 1mesh"],
        refuses: &["namespace: Istio", "namespace: istio.system", "namespace: istio-"],
    },
    Case {
        message: "revision must be a DNS label: lower-case letters, digits and '-'",
        passes: &["revision: canary", "revision: 1-32-0-lab-1"],
        refuses: &["revision: Canary", "revision: a.b", "revision: a-"],
    },
    Case {
        message: "leave revision out for the default one; for pods to find another by that name, tag it default",
        passes: &["revision: default-2"],
        refuses: &["revision: default"],
    },
    Case {
        message: "a tag's name must be a DNS label: lower-case letters, digits and '-'",
        passes: &["tags: [{name: prod}, {name: 1-31}]"],
        refuses: &["tags: [{name: Prod}]", "tags: [{name: a_b}]"],
    },
    Case {
        message: "a tag must not be called as the revision that it is for",
        passes: &["{revision: canary, tags: [{name: prod}]}"],
        refuses: &["{revision: canary, tags: [{name: prod}, {name: canary}]}"],
    },
    Case {
        message: "the tag default needs a revision: without one, the mesh is the default already",
        passes: &["{revision: canary, tags: [{name: default}]}", "tags: [{name: prod}]"],
        refuses: &["tags: [{name: default}]"],
    },
    Case {
        message: "the namespace of cni and ztunnel must be a DNS label: lower-case letters, digits and '-'",
        passes: &["cni: {namespace: kube-system}", "ztunnel: {mode: Enabled}"],
        refuses: &["cni: {namespace: Nodes}", "ztunnel: {namespace: a.b}"],
    },
    Case {
        message: "with upgrade.strategy Canary the operator names the revisions: leave revision out",
        passes: &["upgrade: {strategy: Canary}", "revision: blue", "{revision: blue, upgrade: {strategy: InPlace}}"],
        refuses: &["{revision: blue, upgrade: {strategy: Canary}}"],
    },
    Case {
        message: "upgrade.retireAfter must be at most 720h, written as 5m, 90s or 0s",
        passes: &["upgrade: {retireAfter: 0s}", "upgrade: {retireAfter: 12h}"],
        refuses: &["upgrade: {retireAfter: 721h}", "upgrade: {retireAfter: never}"],
    },
    Case {
        message: "upgrade.progressDeadline must be from 5s to 24h, written as 10m, 90s or 1h30m",
        passes: &[
            "upgrade: {progressDeadline: 10m}",
            "upgrade: {progressDeadline: 1h30m}",
            "upgrade: {onFailure: Halt}",
        ],
        refuses: &[
            "upgrade: {progressDeadline: 4s}",
            "upgrade: {progressDeadline: 25h}",
            "upgrade: {progressDeadline: '600'}",
            "upgrade: {progressDeadline: -10m}",
        ],
    },
    Case {
        message: "set the control plane's replicas or autoscaling, not both",
        passes: &["controlPlane: {replicas: 2}", "controlPlane: {autoscaling: {max: 3}}"],
        refuses: &["controlPlane: {replicas: 2, autoscaling: {max: 3}}"],
    },
    Case {
        message: "autoscaling.min must not be above autoscaling.max",
        passes: &["controlPlane: {autoscaling: {min: 3, max: 3}}", "gateways: [{name: gw, autoscaling: {max: 1}}]"],
        refuses: &[
            "controlPlane: {autoscaling: {min: 4, max: 3}}",
            "gateways: [{name: gw, autoscaling: {min: 2, max: 1}}]",
        ],
    },
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
        message: "includeIPRanges must be [\"*\"] or a list of CIDRs such as 10.0.0.0/8",
        passes: &["proxy: {includeIPRanges: ['*']}", "proxy: {includeIPRanges: [10.0.0.0/8, 'fd00::/8']}"],
        refuses: &["proxy: {includeIPRanges: ['*', 10.0.0.0/8]}", "proxy: {includeIPRanges: [10.0.0.0]}"],
    },
    Case {
        message: "excludeIPRanges must be a list of CIDRs such as 10.0.0.0/8",
        passes: &["proxy: {excludeIPRanges: [169.254.169.254/32]}"],
        refuses: &["proxy: {excludeIPRanges: ['*']}", "proxy: {excludeIPRanges: [metadata.internal]}"],
    },
    Case {
        message: "includeInboundPorts must be [\"*\"] or a list of ports between \"1\" and \"65535\"",
        passes: &["proxy: {includeInboundPorts: ['*']}", "proxy: {includeInboundPorts: ['1', '65535']}"],
        refuses: &[
            "proxy: {includeInboundPorts: ['*', '80']}",
            "proxy: {includeInboundPorts: ['0']}",
            "proxy: {includeInboundPorts: ['65536']}",
            "proxy: {includeInboundPorts: ['http']}",
        ],
    },
    Case {
        message: "excludeInboundPorts must be a list of ports between \"1\" and \"65535\"",
        passes: &["proxy: {excludeInboundPorts: ['9100']}"],
        refuses: &["proxy: {excludeInboundPorts: ['*']}", "proxy: {excludeInboundPorts: ['99999']}"],
    },
    Case {
        message: "includeOutboundPorts must be a list of ports between \"1\" and \"65535\"",
        passes: &["proxy: {includeOutboundPorts: ['3306']}"],
        refuses: &["proxy: {includeOutboundPorts: ['*']}", "proxy: {includeOutboundPorts: ['080']}"],
    },
    Case {
        message: "excludeOutboundPorts must be a list of ports between \"1\" and \"65535\"",
        passes: &["proxy: {excludeOutboundPorts: ['5432']}"],
        refuses: &["proxy: {excludeOutboundPorts: ['*']}", "proxy: {excludeOutboundPorts: ['-1']}"],
    },
    Case {
        message: "nodePorts.range must be a first and a last port between 1 and 65535, for example 30400-30449",
        passes: &["nodePorts: {range: 30400-30449}", "nodePorts: {range: 1-65535}", "nodePorts: {range: 80-80}"],
        refuses: &[
            "nodePorts: {range: '30400'}",
            "nodePorts: {range: 30449-30400}",
            "nodePorts: {range: 0-100}",
            "nodePorts: {range: 1-65536}",
            "nodePorts: {range: 1-2-3}",
            "nodePorts: {range: 30400 - 449}",
        ],
    },
    Case {
        message: "nodePorts.reserved must be a list of ports and ranges of ports such as \"30431\" or \"30400-30405\"",
        passes: &["nodePorts: {reserved: ['30431', '30440-30444']}"],
        refuses: &[
            "nodePorts: {reserved: [http]}",
            "nodePorts: {reserved: ['30431', '30444-30440']}",
            "nodePorts: {reserved: ['65536']}",
        ],
    },
    Case {
        message: "images.registry must be a host and path without scheme and without a trailing slash, for example registry.example.com/istio",
        passes: &[
            "images: {registry: 'registry.example.com:5000/istio'}",
            "images: {registry: localhost/a_b/c.d}",
            "images: {registry: '[fd00::1]:5000/istio'}",
        ],
        refuses: &[
            "images: {registry: 'https://registry.example.com'}",
            "images: {registry: registry.example.com/}",
            "images: {registry: 'a\"b'}",
            "images: {registry: 'a b'}",
        ],
    },
    Case {
        message: "images.pullSecrets must be names of Secrets: lower-case letters, digits, '-' and '.'",
        passes: &["images: {pullSecrets: [registry-key, my.key]}"],
        refuses: &["images: {pullSecrets: ['a: b']}", "images: {pullSecrets: [Key]}", "images: {pullSecrets: [a..b]}"],
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
    Case {
        message: "start must be a time of day between \"00:00\" and \"23:59\"",
        passes: &["proxy: {update: {mode: Restart, windows: [{start: '22:00', end: '04:30'}]}}"],
        refuses: &[
            "proxy: {update: {windows: [{start: '24:00', end: '04:30'}]}}",
            "proxy: {update: {windows: [{start: '9:00', end: '10:00'}]}}",
        ],
    },
    Case {
        message: "end must be a time of day between \"00:00\" and \"23:59\"",
        passes: &["proxy: {update: {windows: [{start: '00:00', end: '23:59', days: [Saturday, Sunday]}]}}"],
        refuses: &["proxy: {update: {windows: [{start: '22:00', end: '04:60'}]}}"],
    },
    Case {
        message: "a window's start and end are the same; leave windows out if restarts may begin at any time",
        passes: &["proxy: {update: {windows: [{start: '22:00', end: '22:01', timeZone: Europe/Berlin}]}}"],
        refuses: &["proxy: {update: {windows: [{start: '22:00', end: '22:00'}]}}"],
    },
];

/// Rules that need more than a spec; each has a test of its own below.
const NAME_TOO_LONG: &str =
    "metadata.name must have at most 63 characters: it becomes a label value on every object of the mesh";
const NAME_OF_COMPONENT: &str = "metadata.name must not be base, cni, istiod, istio-base, istio-cni or ztunnel: tools that read app.kubernetes.io/instance would mix it up with that component";
const NAME_OF_GATEWAY: &str = "metadata.name must not be the name of one of its gateways: tools that read app.kubernetes.io/instance would mix them up";
const REVISION_IMMUTABLE: &str = "revision can't be changed; make a new MeshInstallation for another revision";
const NAMESPACE_IMMUTABLE: &str = "namespace can't be changed; make a new MeshInstallation for another namespace";

fn new(name: &str, spec: &str) -> Vec<String> {
    complaints(&installation(name, spec), None)
}

#[test]
fn each_rule_lets_pass_what_is_right() {
    for case in CASES {
        for spec in case.passes {
            assert_eq!(new("mesh", spec), Vec::<String>::new(), "{spec}");
        }
    }
}

#[test]
fn each_rule_refuses_what_is_wrong_and_says_what_would_be_right() {
    for case in CASES {
        for spec in case.refuses {
            let complaints = new("mesh", spec);
            assert!(complaints.iter().any(|complaint| complaint == case.message), "{spec}: {complaints:?}");
        }
    }
}

#[test]
fn nothing_but_the_rule_meant_refuses() {
    for case in CASES {
        for spec in case.refuses {
            assert_eq!(new("mesh", spec).len(), 1, "{spec}");
        }
    }
}

#[test]
fn a_name_longer_than_a_label_value_is_refused() {
    assert_eq!(new(&"m".repeat(63), ""), Vec::<String>::new());
    assert_eq!(new(&"m".repeat(64), ""), [NAME_TOO_LONG]);
}

#[test]
fn a_name_that_is_a_components_is_refused() {
    assert_eq!(new("istiod-prod", ""), Vec::<String>::new());
    for name in ["base", "cni", "istiod", "istio-base", "istio-cni", "ztunnel"] {
        assert_eq!(new(name, ""), [NAME_OF_COMPONENT], "{name}");
    }
}

#[test]
fn a_name_that_is_also_a_gateways_is_refused() {
    assert_eq!(new("mesh", "gateways: [{name: edge}]"), Vec::<String>::new());
    assert_eq!(new("edge", "gateways: [{name: other}, {name: edge}]"), [NAME_OF_GATEWAY]);
}

#[test]
fn the_namespace_stays_as_it_was_made() {
    let made = installation("mesh", "namespace: istio-system");
    let same = installation("mesh", "{namespace: istio-system, profile: demo}");
    let moved = installation("mesh", "namespace: mesh-system");
    assert_eq!(complaints(&same, Some(&made)), Vec::<String>::new());
    assert_eq!(complaints(&moved, Some(&made)), [NAMESPACE_IMMUTABLE]);
}

#[test]
fn the_namespace_cannot_be_set_on_an_object_that_left_it_out() {
    let made = installation("mesh", "");
    assert_eq!(complaints(&installation("mesh", "namespace: other"), Some(&made)), [NAMESPACE_IMMUTABLE]);
}

#[test]
fn the_revision_stays_as_it_was_made() {
    let made = |revision: &str| installation("mesh", revision);
    let complaints = |new: &str, old: &str| complaints(&made(new), Some(&made(old)));
    assert_eq!(complaints("{revision: a, profile: demo}", "revision: a"), Vec::<String>::new());
    assert_eq!(complaints("profile: demo", ""), Vec::<String>::new());
    for (new, old) in [("revision: b", "revision: a"), ("", "revision: a"), ("revision: a", "")] {
        assert_eq!(complaints(new, old), [REVISION_IMMUTABLE], "{new} after {old}");
    }
}

#[test]
fn the_schema_and_the_parser_agree_on_what_a_version_is() {
    let texts = [
        "1.31",
        "1.31.2",
        "0.0",
        "10.20.30",
        "1.32.0-alpha.1",
        "1.32.0-alpha.eed52ebb66ad",
        "1.32.0-rc.0",
        "1.32.0-0a",
        "1.32.0--",
        "1",
        "1.",
        ".1",
        "1.31.",
        "1.x",
        "01.31",
        "1.031",
        "1.31.02",
        "1.32.0-",
        "1.32.0-01",
        "1.32.0-a..b",
        "1.32-alpha",
        "1.31.2+solo",
        "1.31.2.3",
        "latest",
        "v1.31",
        "V1.31.2",
        "v",
        "version",
        " 1.31",
        "1.31 ",
        "1,31",
    ];
    for text in texts {
        let schema_accepts = new("mesh", &format!("version: {text:?}")).is_empty();
        assert_eq!(schema_accepts, text.parse::<VersionRequest>().is_ok(), "{text:?}");
    }
}

#[test]
fn no_rule_is_without_a_case() {
    let mut expected: BTreeSet<String> = CASES.iter().map(|case| case.message.to_owned()).collect();
    expected.extend(
        [NAME_TOO_LONG, NAME_OF_COMPONENT, NAME_OF_GATEWAY, NAMESPACE_IMMUTABLE, REVISION_IMMUTABLE].map(str::to_owned),
    );
    let mut found = BTreeSet::new();
    collect_messages(&schema(), &mut found);
    assert_eq!(found, expected);
}

fn collect_messages(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            let rules = fields.get("x-kubernetes-validations").and_then(Value::as_array);
            for rule in rules.into_iter().flatten() {
                found.insert(rule["message"].as_str().unwrap().to_owned());
            }
            fields.values().for_each(|field| collect_messages(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_messages(item, found)),
        _ => {}
    }
}
