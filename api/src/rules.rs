//! CEL validation rules of the CRD and their messages.
//!
//! The rules are defined here rather than in the types' attributes for readability, and so that similar fields share a
//! rule. Lists and strings that a rule iterates over need a maximum size in the schema, because the API server limits
//! the estimated cost of rules.

use kube::core::{Message, Rule};

use crate::AddOnName;

/// Names of Istio's components as Helm releases, as workloads and in status.
const COMPONENTS: &str = "['base', 'cni', 'istiod', 'istio-base', 'istio-cni', 'ztunnel']";

/// An RFC 1123 label, the format of namespace names.
const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

fn rule(cel: impl Into<String>, message: impl Into<String>) -> Rule {
    Rule::new(cel).message(Message::Message(message.into()))
}

/// For the root. The name is a label value of every object of the mesh.
pub(crate) fn name_is_label_value() -> Rule {
    rule(
        "size(self.metadata.name) <= 63",
        "metadata.name must have at most 63 characters, because it is a label value on every object of the mesh",
    )
}

/// For the root. Tools that track objects by `app.kubernetes.io/instance`, such as Argo CD, would attribute the
/// component to the application that created the MeshInstallation.
pub(crate) fn name_is_not_a_component() -> Rule {
    rule(
        format!("!(self.metadata.name in {COMPONENTS})"),
        "metadata.name must not be base, cni, istiod, istio-base, istio-cni or ztunnel, because \
         tools that track objects by app.kubernetes.io/instance would confuse it with that component",
    )
}

/// For the root, for the same reason.
pub(crate) fn name_is_not_a_gateway() -> Rule {
    rule(
        "!has(self.spec.gateways) || !self.spec.gateways.exists(g, g.name == self.metadata.name)",
        "metadata.name must not be the name of a gateway in spec.gateways, because \
         tools that track objects by app.kubernetes.io/instance would confuse them",
    )
}

/// For `spec.version`. Accepts a leading v, which [`version_has_no_leading_v`] rejects with a more specific message.
pub(crate) fn version_is_well_formed() -> Rule {
    let number = "(0|[1-9][0-9]*)";
    let identifier = "(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)";
    rule(
        format!("self.matches('^[vV]?{number}[.]{number}([.]{number}(-{identifier}([.]{identifier})*)?)?$')"),
        "version must be a minor such as 1.31, a release such as 1.31.2, \
         or a pre-release such as 1.32.0-alpha.1",
    )
}

/// Rule of `spec.version`: Istio tags have no leading v.
pub(crate) fn version_has_no_leading_v() -> Rule {
    rule("!self.matches('^[vV][0-9]')", "version must not have a leading v: use 1.31 or 1.31.2, for example")
}

/// For `spec.namespace`. A mesh can't be moved to another namespace.
pub(crate) fn namespace_is_immutable() -> Rule {
    rule("self == oldSelf", "namespace is immutable; create a new MeshInstallation for another namespace")
}

/// For the root, because rules of a field are skipped when the field is added or removed. Names and selectors of the
/// control plane's objects contain the revision.
pub(crate) fn revision_is_immutable() -> Rule {
    rule(
        "has(self.spec.revision) == has(oldSelf.spec.revision) \
         && (!has(self.spec.revision) || self.spec.revision == oldSelf.spec.revision)",
        "revision is immutable; create a new MeshInstallation for another revision",
    )
}

/// Rule of `spec.revision`: Istio has no revision label for the default.
pub(crate) fn revision_is_not_default() -> Rule {
    rule(
        "self != 'default'",
        "revision must not be default: omit revision for the default revision, or add the tag default to another one",
    )
}

/// For the root. Two webhooks would inject the same pods.
pub(crate) fn tags_differ_from_revision() -> Rule {
    rule(
        "!has(self.spec.tags) || !has(self.spec.revision) || self.spec.tags.all(t, t.name != self.spec.revision)",
        "the name of a tag must differ from the revision",
    )
}

/// For the root, for the same reason.
pub(crate) fn default_tag_requires_revision() -> Rule {
    rule(
        "!has(self.spec.tags) || has(self.spec.revision) || self.spec.tags.all(t, t.name != 'default')",
        "the tag default requires a revision: a mesh without a revision is already the default",
    )
}

/// For names of namespaces, revisions and tags. `field` is the first word of the message.
pub(crate) fn is_dns_label(field: &str) -> Rule {
    rule(
        format!("self.matches('{DNS_LABEL}')"),
        format!("{field} must be a DNS label: lowercase letters, digits and '-'"),
    )
}

/// For the name of a gateway, which is also the name of a Service. Names of Services start with a letter.
pub(crate) fn is_service_name() -> Rule {
    rule(
        "self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "a gateway's name must be a DNS label that starts with a letter: lowercase letters, digits and '-'",
    )
}

/// For the name of a gateway.
pub(crate) fn is_not_a_component() -> Rule {
    rule(
        format!("!(self in {COMPONENTS})"),
        "a gateway's name must not be base, cni, istiod, istio-base, istio-cni or ztunnel: \
         these are names of other components",
    )
}

/// For a workload; `owner` names it in the message.
pub(crate) fn replicas_or_autoscaling(owner: &str) -> Rule {
    rule(
        "!(has(self.replicas) && has(self.autoscaling))",
        format!("{owner} replicas and autoscaling are mutually exclusive; set only one of them"),
    )
}

/// Rule of every `autoscaling` object. A stored object may lack the required field: it had another name, and its status
/// must still be writable.
pub(crate) fn min_replicas_up_to_max() -> Rule {
    rule(
        "!has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
        "autoscaling.minReplicas must be less than or equal to autoscaling.maxReplicas",
    )
}

/// The type of a gateway's Service in CEL; [`crate::Gateway::service_type`] is the same in Rust.
const SERVICE_TYPE: &str = "(has(self.service) && has(self.service.type) ? self.service.type : \
    (self.direction == 'Egress' ? 'ClusterIP' : 'LoadBalancer'))";

/// For a gateway.
pub(crate) fn node_port_matches_type() -> Rule {
    rule(
        format!(
            "!has(self.service) || !has(self.service.ports) || {SERVICE_TYPE} != 'ClusterIP' \
             || self.service.ports.all(p, !has(p.nodePort))"
        ),
        "nodePort requires service.type NodePort or LoadBalancer; this gateway's Service has type ClusterIP",
    )
}

/// For a gateway.
pub(crate) fn traffic_policy_matches_type() -> Rule {
    rule(
        format!(
            "!has(self.service) || !has(self.service.externalTrafficPolicy) \
             || {SERVICE_TYPE} != 'ClusterIP'"
        ),
        "externalTrafficPolicy requires service.type NodePort or LoadBalancer; \
         this gateway's Service has type ClusterIP",
    )
}

/// For a gateway. Fields for load balancers and `requireAddress` have rules of their own.
pub(crate) fn fields_require_service() -> Rule {
    rule(
        format!(
            "!has(self.service) || {SERVICE_TYPE} != 'None' \
             || !(has(self.service.ports) || has(self.service.annotations) || has(self.service.externalTrafficPolicy))"
        ),
        "ports, annotations and externalTrafficPolicy require a Service; this gateway has service.type None",
    )
}

/// For a gateway.
pub(crate) fn load_balancer_fields_match_type() -> Rule {
    rule(
        format!(
            "!has(self.service) || {SERVICE_TYPE} == 'LoadBalancer' \
             || !(has(self.service.loadBalancerClass) || has(self.service.loadBalancerSourceRanges) \
             || has(self.service.allocateLoadBalancerNodePorts))"
        ),
        "loadBalancerClass, loadBalancerSourceRanges and allocateLoadBalancerNodePorts \
         require service.type LoadBalancer",
    )
}

/// For a gateway.
pub(crate) fn network_matches_direction() -> Rule {
    rule(
        "has(self.network) == (self.direction == 'EastWest')",
        "network is required with direction EastWest and not allowed with other directions",
    )
}

/// For a gateway. Istio's chart supports only these ports in east-west gateways.
pub(crate) fn east_west_port_names() -> Rule {
    rule(
        "self.direction != 'EastWest' || !has(self.service) || !has(self.service.ports) \
         || self.service.ports.all(p, p.name in ['status-port', 'tls', 'tls-istiod', 'tls-webhook'])",
        "a gateway with direction EastWest can only have the ports status-port, tls, tls-istiod and tls-webhook",
    )
}

/// For a gateway.
pub(crate) fn require_address_matches_type() -> Rule {
    rule(
        format!("!has(self.requireAddress) || !self.requireAddress || {SERVICE_TYPE} == 'LoadBalancer'"),
        "requireAddress requires service.type LoadBalancer; Services of other types get no address",
    )
}

/// For the ports of a gateway.
pub(crate) fn ports_are_unique() -> Rule {
    rule(
        "self.all(p, self.exists_one(q, q.port == p.port && q.protocol == p.protocol))",
        "the ports of a gateway must be unique: two ports have the same port and protocol",
    )
}

/// For the ports of a gateway. TCP and UDP can use the same number.
pub(crate) fn node_ports_are_unique() -> Rule {
    rule(
        "self.all(p, !has(p.nodePort) || self.exists_one(q, \
         has(q.nodePort) && q.nodePort == p.nodePort && q.protocol == p.protocol))",
        "the node ports of a gateway must be unique: two ports have the same nodePort and protocol",
    )
}

/// For a list of CIDRs.
pub(crate) fn are_cidrs(field: &str) -> Rule {
    rule("self.all(r, isCIDR(r))", format!("{field} must be a list of CIDRs such as 10.0.0.0/8"))
}

/// For a list of CIDRs that can be `["*"]`.
pub(crate) fn are_cidrs_or_all(field: &str) -> Rule {
    rule(
        "self.exists(r, r == '*') ? size(self) == 1 : self.all(r, isCIDR(r))",
        format!("{field} must be [\"*\"] or a list of CIDRs such as 10.0.0.0/8"),
    )
}

const IS_PORT: &str = "p.matches('^[1-9][0-9]*$') && int(p) <= 65535";

/// For a list of ports.
pub(crate) fn are_ports(field: &str) -> Rule {
    rule(format!("self.all(p, {IS_PORT})"), format!("{field} must be a list of ports between \"1\" and \"65535\""))
}

/// For a list of ports that can be `["*"]`.
pub(crate) fn are_ports_or_all(field: &str) -> Rule {
    rule(
        format!("self.exists(p, p == '*') ? size(self) == 1 : self.all(p, {IS_PORT})"),
        format!("{field} must be [\"*\"] or a list of ports between \"1\" and \"65535\""),
    )
}

/// For the name of a Secret.
pub(crate) fn is_secret_name() -> Rule {
    rule(
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
        "images.imagePullSecrets[].name must be the name of a Secret: lowercase letters, digits, '-' and '.'",
    )
}

/// For the class of a load balancer.
pub(crate) fn is_load_balancer_class() -> Rule {
    rule(
        "self.matches('^([a-z0-9][-a-z0-9.]*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')",
        "loadBalancerClass must be a name with an optional prefix, such as internal-vip or example.com/internal-vip",
    )
}

/// A CEL expression that validates a range `first-last` in the variable `s`. The conjunction short-circuits, so only
/// digits are converted to numbers.
fn is_range(s: &str) -> String {
    format!(
        "({s}.matches('^[1-9][0-9]{{0,4}}-[1-9][0-9]{{0,4}}$') \
         && int({s}.split('-')[0]) <= int({s}.split('-')[1]) && int({s}.split('-')[1]) <= 65535)"
    )
}

/// For a range of ports.
pub(crate) fn is_port_range() -> Rule {
    rule(
        is_range("self"),
        "nodePorts.range must have the form <first>-<last> with ports between 1 and 65535, for example 30400-30449",
    )
}

/// For a list of ports and ranges of ports.
pub(crate) fn are_ports_or_ranges(field: &str) -> Rule {
    rule(
        format!("self.all(p, p.contains('-') ? {} : ({IS_PORT}))", is_range("p")),
        format!("{field} must be a list of ports and port ranges such as \"30431\" or \"30400-30405\""),
    )
}

/// For the registry of the images.
pub(crate) fn is_registry() -> Rule {
    rule(
        "self.matches('^([A-Za-z0-9][-A-Za-z0-9.]*|\\\\[[0-9A-Fa-f:]+\\\\])(:[0-9]+)?(/[A-Za-z0-9][-A-Za-z0-9._]*)*$')",
        "images.registry must be a host with an optional path, without a scheme or trailing slash, \
         for example registry.example.com/istio",
    )
}

/// For the digests of images.
pub(crate) fn digests_have_known_images() -> Rule {
    let (istio, add_ons) = (crate::IMAGE_NAMES, AddOnName::ALL.map(AddOnName::as_str));
    rule(
        format!("self.all(name, name in [{}, {}])", quoted(&istio), quoted(&add_ons)),
        format!(
            "images.digests must have keys that are images of Istio ({}) or of add-ons ({})",
            istio.join(", "),
            add_ons.join(", ")
        ),
    )
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

/// For the root. A minor version can resolve to another release later.
pub(crate) fn digests_require_exact_version() -> Rule {
    rule(
        format!(
            "!has(self.spec.images) || !has(self.spec.images.digests) \
             || self.spec.images.digests.all(name, !(name in [{}])) || self.spec.version.matches('[.].*[.]')",
            quoted(&crate::IMAGE_NAMES)
        ),
        "images.digests of Istio's images require an exact version, for example 1.31.2",
    )
}

/// For the root. With strategy Canary, the operator chooses the revision.
pub(crate) fn canary_excludes_revision() -> Rule {
    rule(
        "!has(self.spec.revision) || !has(self.spec.upgrade) || !has(self.spec.upgrade.strategy) \
         || self.spec.upgrade.strategy != 'Canary'",
        "revision must not be set with upgrade.strategy Canary, because the operator chooses the revisions",
    )
}

/// A non-empty duration such as `1h30m`.
const IS_DURATION: &str = "self.matches('^([0-9]+h)?([0-9]+m)?([0-9]+s)?$') && self != ''";

/// Rule of `spec.upgrade.retireAfter`: a duration within its bounds.
pub(crate) fn is_retire_after() -> Rule {
    rule(
        format!("{IS_DURATION} && duration(self) <= duration('720h')"),
        "upgrade.retireAfter must be a duration of at most 720h, such as 5m, 90s or 0s",
    )
}

/// For `spec.upgrade.progressDeadline`. The limits are what Kubernetes accepts and what a rollout can meet.
pub(crate) fn is_progress_deadline() -> Rule {
    rule(
        format!("{IS_DURATION} && duration(self) >= duration('5s') && duration(self) <= duration('24h')"),
        "upgrade.progressDeadline must be a duration from 5s to 24h, such as 10m, 90s or 1h30m",
    )
}

/// For a time of day. `field` is the first word of the message.
pub(crate) fn is_time_of_day(field: &str) -> Rule {
    rule(
        "self.matches('^([01][0-9]|2[0-3]):[0-5][0-9]$')",
        format!("{field} must be a time of day between \"00:00\" and \"23:59\""),
    )
}

/// For a maintenance window.
pub(crate) fn window_is_not_empty() -> Rule {
    rule("self.start != self.end", "start and end of a window must differ; omit windows to allow restarts at any time")
}
