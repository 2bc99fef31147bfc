//! Test cases of the rules for version, names, control plane, upgrades, images and node ports.

use super::RuleCase;

pub(super) const CASES: &[RuleCase] = &[
    RuleCase {
        message: "version must not have a leading v: use 1.31 or 1.31.2, for example",
        accepted: &["version: '1.31'"],
        rejected: &["version: v1.31", "version: V1.31.2"],
    },
    RuleCase {
        message: "version must be a minor such as 1.31, a release such as 1.31.2, or a pre-release such as 1.32.0-alpha.1",
        accepted: &["version: 1.31.2", "version: 1.32.0-alpha.eed52ebb66ad"],
        rejected: &["version: latest", "version: '1'", "version: 1.031.0"],
    },
    RuleCase {
        message: "namespace must be a DNS label: lowercase letters, digits and '-'",
        accepted: &["namespace: istio-system", "namespace: 1mesh"],
        rejected: &["namespace: Istio", "namespace: istio.system", "namespace: istio-"],
    },
    RuleCase {
        message: "revision must be a DNS label: lowercase letters, digits and '-'",
        accepted: &["revision: canary", "revision: 1-32-0-lab-1"],
        rejected: &["revision: Canary", "revision: a.b", "revision: a-"],
    },
    RuleCase {
        message: "revision must not be default: omit revision for the default revision, or add the tag default to another one",
        accepted: &["revision: default-2"],
        rejected: &["revision: default"],
    },
    RuleCase {
        message: "a tag's name must be a DNS label: lowercase letters, digits and '-'",
        accepted: &["tags: [{name: prod}, {name: 1-31}]"],
        rejected: &["tags: [{name: Prod}]", "tags: [{name: a_b}]"],
    },
    RuleCase {
        message: "the name of a tag must differ from the revision",
        accepted: &["{revision: canary, tags: [{name: prod}]}"],
        rejected: &["{revision: canary, tags: [{name: prod}, {name: canary}]}"],
    },
    RuleCase {
        message: "the tag default requires a revision: a mesh without a revision is already the default",
        accepted: &["{revision: canary, tags: [{name: default}]}", "tags: [{name: prod}]"],
        rejected: &["tags: [{name: default}]"],
    },
    RuleCase {
        message: "the namespace of cni or ztunnel must be a DNS label: lowercase letters, digits and '-'",
        accepted: &["cni: {namespace: kube-system}", "ztunnel: {mode: Enabled}"],
        rejected: &["cni: {namespace: Nodes}", "ztunnel: {namespace: a.b}"],
    },
    RuleCase {
        message: "revision must not be set with upgrade.strategy Canary, because the operator chooses the revisions",
        accepted: &["upgrade: {strategy: Canary}", "revision: blue", "{revision: blue, upgrade: {strategy: InPlace}}"],
        rejected: &["{revision: blue, upgrade: {strategy: Canary}}"],
    },
    RuleCase {
        message: "upgrade.retireAfter must be a duration of at most 720h, such as 5m, 90s or 0s",
        accepted: &["upgrade: {retireAfter: 0s}", "upgrade: {retireAfter: 12h}"],
        rejected: &["upgrade: {retireAfter: 721h}", "upgrade: {retireAfter: never}"],
    },
    RuleCase {
        message: "upgrade.progressDeadline must be a duration from 5s to 24h, such as 10m, 90s or 1h30m",
        accepted: &[
            "upgrade: {progressDeadline: 10m}",
            "upgrade: {progressDeadline: 1h30m}",
            "upgrade: {onFailure: Halt}",
        ],
        rejected: &[
            "upgrade: {progressDeadline: 4s}",
            "upgrade: {progressDeadline: 25h}",
            "upgrade: {progressDeadline: '600'}",
            "upgrade: {progressDeadline: -10m}",
        ],
    },
    RuleCase {
        message: "the control plane's replicas and autoscaling are mutually exclusive; set only one of them",
        accepted: &["controlPlane: {replicas: 2}", "controlPlane: {autoscaling: {maxReplicas: 3}}"],
        rejected: &["controlPlane: {replicas: 2, autoscaling: {maxReplicas: 3}}"],
    },
    RuleCase {
        message: "autoscaling.minReplicas must be less than or equal to autoscaling.maxReplicas",
        accepted: &[
            "controlPlane: {autoscaling: {minReplicas: 3, maxReplicas: 3}}",
            "gateways: [{name: gw, autoscaling: {maxReplicas: 1}}]",
        ],
        rejected: &[
            "controlPlane: {autoscaling: {minReplicas: 4, maxReplicas: 3}}",
            "gateways: [{name: gw, autoscaling: {minReplicas: 2, maxReplicas: 1}}]",
        ],
    },
    RuleCase {
        message: "nodePorts.range must have the form <first>-<last> with ports between 1 and 65535, for example 30400-30449",
        accepted: &["nodePorts: {range: 30400-30449}", "nodePorts: {range: 1-65535}", "nodePorts: {range: 80-80}"],
        rejected: &[
            "nodePorts: {range: '30400'}",
            "nodePorts: {range: 30449-30400}",
            "nodePorts: {range: 0-100}",
            "nodePorts: {range: 1-65536}",
            "nodePorts: {range: 1-2-3}",
            "nodePorts: {range: 30400 - 449}",
        ],
    },
    RuleCase {
        message: "nodePorts.reserved must be a list of ports and port ranges such as \"30431\" or \"30400-30405\"",
        accepted: &["nodePorts: {reserved: ['30431', '30440-30444']}"],
        rejected: &[
            "nodePorts: {reserved: [http]}",
            "nodePorts: {reserved: ['30431', '30444-30440']}",
            "nodePorts: {reserved: ['65536']}",
        ],
    },
    RuleCase {
        message: "images.digests must have keys that are images of Istio (agentgateway, install-cni, pilot, proxyv2, ztunnel) or of add-ons (prometheus, grafana, kiali, jaeger)",
        accepted: &[
            "{version: 1.31.2, images: {digests: {pilot: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef', install-cni: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}}}",
            "{version: 1.31.2, images: {digests: {prometheus: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}}}",
        ],
        rejected: &[
            "{version: 1.31.2, images: {digests: {istiod: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}}}",
        ],
    },
    RuleCase {
        message: "images.digests of Istio's images require an exact version, for example 1.31.2",
        accepted: &[
            "{version: 1.32.0-alpha.1, images: {digests: {pilot: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}}}",
            "{version: '1.31', images: {digests: {}}}",
            "{version: '1.31', images: {digests: {grafana: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}}}",
        ],
        rejected: &[
            "{version: '1.31', images: {digests: {pilot: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}}}",
        ],
    },
    RuleCase {
        message: "images.registry must be a host with an optional path, without a scheme or trailing slash, for example registry.example.com/istio",
        accepted: &[
            "images: {registry: 'registry.example.com:5000/istio'}",
            "images: {registry: localhost/a_b/c.d}",
            "images: {registry: '[fd00::1]:5000/istio'}",
        ],
        rejected: &[
            "images: {registry: 'https://registry.example.com'}",
            "images: {registry: registry.example.com/}",
            "images: {registry: 'a\"b'}",
            "images: {registry: 'a b'}",
        ],
    },
    RuleCase {
        message: "images.imagePullSecrets[].name must be the name of a Secret: lowercase letters, digits, '-' and '.'",
        accepted: &["images: {imagePullSecrets: [{name: registry-key}, {name: my.key}]}"],
        rejected: &[
            "images: {imagePullSecrets: [{name: 'a: b'}]}",
            "images: {imagePullSecrets: [{name: Key}]}",
            "images: {imagePullSecrets: [{name: a..b}]}",
        ],
    },
];
