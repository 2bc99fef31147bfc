//! Rules of the mesh as a whole: its version, names, control plane, upgrades, images and node ports.

use super::Case;

pub(super) const CASES: &[Case] = &[
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
        message: "images.digests must be for images of Istio, agentgateway, install-cni, pilot, proxyv2, ztunnel, or of add-ons, prometheus, grafana, kiali, jaeger",
        passes: &[
            "{version: 1.31.2, images: {digests: {pilot: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef', install-cni: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}}}",
            "{version: 1.31.2, images: {digests: {prometheus: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}}}",
        ],
        refuses: &[
            "{version: 1.31.2, images: {digests: {istiod: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}}}",
        ],
    },
    Case {
        message: "images.digests of Istio are those of one release: write the version in full, for example 1.31.2",
        passes: &[
            "{version: 1.32.0-alpha.1, images: {digests: {pilot: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}}}",
            "{version: '1.31', images: {digests: {}}}",
            "{version: '1.31', images: {digests: {grafana: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}}}",
        ],
        refuses: &[
            "{version: '1.31', images: {digests: {pilot: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}}}",
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
];
