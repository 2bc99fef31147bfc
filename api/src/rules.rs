//! The CEL rules of the CRD, with the message that a user reads when one refuses.
//!
//! Rules stand here rather than in the types' attributes so that those stay readable, and so that
//! fields of one kind have one rule. Lists and strings that a rule walks over need an upper bound in
//! the schema: the API server refuses a CRD whose rules could cost too much.

use kube::core::{Message, Rule};

use crate::AddOnName;

/// Names that Istio's other components have: as Helm releases, as workloads and in status.
const COMPONENTS: &str = "['base', 'cni', 'istiod', 'istio-base', 'istio-cni', 'ztunnel']";

/// A label of the domain name system, as namespaces are.
const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

fn rule(cel: impl Into<String>, message: impl Into<String>) -> Rule {
    Rule::new(cel).message(Message::Message(message.into()))
}

/// On the root: the name is written on every object of the mesh.
pub(crate) fn name_fits_a_label() -> Rule {
    rule(
        "size(self.metadata.name) <= 63",
        "metadata.name must have at most 63 characters: it becomes a label value on every object of the mesh",
    )
}

/// On the root: tools that track objects by `app.kubernetes.io/instance`, such as Argo CD, would
/// take the component for part of whatever made the `MeshInstallation`.
pub(crate) fn name_is_no_components() -> Rule {
    rule(
        format!("!(self.metadata.name in {COMPONENTS})"),
        "metadata.name must not be base, cni, istiod, istio-base, istio-cni or ztunnel: \
         tools that read app.kubernetes.io/instance would mix it up with that component",
    )
}

/// On the root, for the same reason.
pub(crate) fn name_is_no_gateways() -> Rule {
    rule(
        "!has(self.spec.gateways) || !self.spec.gateways.exists(g, g.name == self.metadata.name)",
        "metadata.name must not be the name of one of its gateways: \
         tools that read app.kubernetes.io/instance would mix them up",
    )
}

/// On a version. What begins with a v is left to [`version_has_no_v`], which has the better message.
pub(crate) fn version_is_well_formed() -> Rule {
    let number = "(0|[1-9][0-9]*)";
    let identifier = "(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)";
    rule(
        format!("self.matches('^[vV]?{number}[.]{number}([.]{number}(-{identifier}([.]{identifier})*)?)?$')"),
        "version must be a minor such as 1.31, a release such as 1.31.2, \
         or a pre-release such as 1.32.0-alpha.1",
    )
}

/// On a version.
pub(crate) fn version_has_no_v() -> Rule {
    rule("!self.matches('^[vV][0-9]')", "write the version without a leading v, for example 1.31 or 1.31.2")
}

/// On the namespace of the control plane: a mesh can't be moved.
pub(crate) fn namespace_stays() -> Rule {
    rule("self == oldSelf", "namespace can't be changed; make a new MeshInstallation for another namespace")
}

/// On the root, since a rule of a field is skipped when the field comes or goes: the control plane's objects, its selectors
/// among them, are called after the revision.
pub(crate) fn revision_stays() -> Rule {
    rule(
        "has(self.spec.revision) == has(oldSelf.spec.revision) \
         && (!has(self.spec.revision) || self.spec.revision == oldSelf.spec.revision)",
        "revision can't be changed; make a new MeshInstallation for another revision",
    )
}

/// On a revision.
pub(crate) fn revision_is_not_default() -> Rule {
    rule(
        "self != 'default'",
        "leave revision out for the default one; for pods to find another by that name, tag it default",
    )
}

/// On the root: two webhooks would take the same pods.
pub(crate) fn no_tag_is_the_revision() -> Rule {
    rule(
        "!has(self.spec.tags) || !has(self.spec.revision) || self.spec.tags.all(t, t.name != self.spec.revision)",
        "a tag must not be called as the revision that it is for",
    )
}

/// On the root, for the same reason.
pub(crate) fn the_default_needs_no_tag() -> Rule {
    rule(
        "!has(self.spec.tags) || has(self.spec.revision) || self.spec.tags.all(t, t.name != 'default')",
        "the tag default needs a revision: without one, the mesh is the default already",
    )
}

/// On the name of a namespace; `what` begins the message.
pub(crate) fn is_dns_label(what: &str) -> Rule {
    rule(
        format!("self.matches('{DNS_LABEL}')"),
        format!("{what} must be a DNS label: lower-case letters, digits and '-'"),
    )
}

/// On the name of a gateway, which is the name of a Service too, and those begin with a letter.
pub(crate) fn is_service_name() -> Rule {
    rule(
        "self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "a gateway's name must be a DNS label: \
         lower-case letters, digits and '-', beginning with a letter",
    )
}

/// On the name of a gateway.
pub(crate) fn is_no_component() -> Rule {
    rule(
        format!("!(self in {COMPONENTS})"),
        "base, cni, istiod, istio-base, istio-cni and ztunnel are names of other components; \
         choose another name for the gateway",
    )
}

/// On a workload; `what` is how the message calls it.
pub(crate) fn replicas_or_autoscaling(what: &str) -> Rule {
    rule("!(has(self.replicas) && has(self.autoscaling))", format!("set {what} replicas or autoscaling, not both"))
}

/// On an autoscaling range.
pub(crate) fn min_up_to_max() -> Rule {
    rule("self.min <= self.max", "autoscaling.min must not be above autoscaling.max")
}

/// The type of a gateway's Service in CEL, as [`crate::Gateway::service_type`] has it in Rust.
const SERVICE_TYPE: &str = "(has(self.service) && has(self.service.type) ? self.service.type : \
    (self.direction == 'Egress' ? 'ClusterIP' : 'LoadBalancer'))";

/// On a gateway.
pub(crate) fn node_port_fits_type() -> Rule {
    rule(
        format!(
            "!has(self.service) || !has(self.service.ports) || {SERVICE_TYPE} != 'ClusterIP' \
             || self.service.ports.all(p, !has(p.nodePort))"
        ),
        "a nodePort needs a service of type NodePort or LoadBalancer; this gateway's is ClusterIP",
    )
}

/// On a gateway.
pub(crate) fn traffic_policy_fits_type() -> Rule {
    rule(
        format!(
            "!has(self.service) || !has(self.service.externalTrafficPolicy) \
             || {SERVICE_TYPE} != 'ClusterIP'"
        ),
        "externalTrafficPolicy needs a service of type NodePort or LoadBalancer; \
         this gateway's is ClusterIP",
    )
}

/// On a gateway.
pub(crate) fn load_balancer_fields_fit_type() -> Rule {
    rule(
        format!(
            "!has(self.service) || {SERVICE_TYPE} == 'LoadBalancer' \
             || !(has(self.service.loadBalancerClass) || has(self.service.loadBalancerSourceRanges) \
             || has(self.service.allocateLoadBalancerNodePorts))"
        ),
        "loadBalancerClass, loadBalancerSourceRanges and allocateLoadBalancerNodePorts \
         need a service of type LoadBalancer",
    )
}

/// On a gateway.
pub(crate) fn network_fits_direction() -> Rule {
    rule(
        "has(self.network) == (self.direction == 'EastWest')",
        "an EastWest gateway needs network, and no other gateway has one",
    )
}

/// On a gateway: Istio's chart gives an east-west gateway these ports and no others.
pub(crate) fn east_west_ports() -> Rule {
    rule(
        "self.direction != 'EastWest' || !has(self.service) || !has(self.service.ports) \
         || self.service.ports.all(p, p.name in ['status-port', 'tls', 'tls-istiod', 'tls-webhook'])",
        "an EastWest gateway has the ports status-port, tls, tls-istiod and tls-webhook and no others",
    )
}

/// On a gateway.
pub(crate) fn required_address_fits_type() -> Rule {
    rule(
        format!("!has(self.requireAddress) || !self.requireAddress || {SERVICE_TYPE} == 'LoadBalancer'"),
        "requireAddress needs a service of type LoadBalancer: other types wait for no address",
    )
}

/// On the ports of a gateway.
pub(crate) fn ports_are_distinct() -> Rule {
    rule(
        "self.all(p, self.exists_one(q, q.port == p.port && q.protocol == p.protocol))",
        "two ports of a gateway have the same port and protocol",
    )
}

/// On the ports of a gateway; one number can serve TCP and UDP.
pub(crate) fn node_ports_are_distinct() -> Rule {
    rule(
        "self.all(p, !has(p.nodePort) || self.exists_one(q, \
         has(q.nodePort) && q.nodePort == p.nodePort && q.protocol == p.protocol))",
        "two ports of a gateway ask for the same nodePort",
    )
}

/// On a list of address ranges.
pub(crate) fn are_ranges(field: &str) -> Rule {
    rule("self.all(r, isCIDR(r))", format!("{field} must be a list of CIDRs such as 10.0.0.0/8"))
}

/// On a list of address ranges that can be the one entry `*`.
pub(crate) fn are_ranges_or_all(field: &str) -> Rule {
    rule(
        "self.exists(r, r == '*') ? size(self) == 1 : self.all(r, isCIDR(r))",
        format!("{field} must be [\"*\"] or a list of CIDRs such as 10.0.0.0/8"),
    )
}

const IS_PORT: &str = "p.matches('^[1-9][0-9]*$') && int(p) <= 65535";

/// On a list of ports.
pub(crate) fn are_ports(field: &str) -> Rule {
    rule(format!("self.all(p, {IS_PORT})"), format!("{field} must be a list of ports between \"1\" and \"65535\""))
}

/// On a list of ports that can be the one entry `*`.
pub(crate) fn are_ports_or_all(field: &str) -> Rule {
    rule(
        format!("self.exists(p, p == '*') ? size(self) == 1 : self.all(p, {IS_PORT})"),
        format!("{field} must be [\"*\"] or a list of ports between \"1\" and \"65535\""),
    )
}

/// On the names of Secrets.
pub(crate) fn are_secret_names() -> Rule {
    rule(
        "self.all(s, s.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'))",
        "images.pullSecrets must be names of Secrets: lower-case letters, digits, '-' and '.'",
    )
}

/// On the class of a load balancer.
pub(crate) fn is_load_balancer_class() -> Rule {
    rule(
        "self.matches('^([a-z0-9][-a-z0-9.]*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')",
        "loadBalancerClass must be a name such as internal-vip or example.com/internal-vip",
    )
}

/// A range as `first-last`; `{s}` is the string. CEL stops at the first part that doesn't hold, so numbers are read only
/// from what is made of digits.
fn range_holds(s: &str) -> String {
    format!(
        "({s}.matches('^[1-9][0-9]{{0,4}}-[1-9][0-9]{{0,4}}$') \
         && int({s}.split('-')[0]) <= int({s}.split('-')[1]) && int({s}.split('-')[1]) <= 65535)"
    )
}

/// On a range of ports.
pub(crate) fn is_port_range() -> Rule {
    rule(
        range_holds("self"),
        "nodePorts.range must be a first and a last port between 1 and 65535, for example 30400-30449",
    )
}

/// On a list of ports and ranges.
pub(crate) fn are_ports_or_ranges(field: &str) -> Rule {
    rule(
        format!("self.all(p, p.contains('-') ? {} : ({IS_PORT}))", range_holds("p")),
        format!("{field} must be a list of ports and ranges of ports such as \"30431\" or \"30400-30405\""),
    )
}

/// On the registry of the images.
pub(crate) fn is_registry() -> Rule {
    rule(
        "self.matches('^([A-Za-z0-9][-A-Za-z0-9.]*|\\\\[[0-9A-Fa-f:]+\\\\])(:[0-9]+)?(/[A-Za-z0-9][-A-Za-z0-9._]*)*$')",
        "images.registry must be a host and path without scheme and without a trailing slash, \
         for example registry.example.com/istio",
    )
}

/// On the digests of images.
pub(crate) fn are_digests_of_images() -> Rule {
    let (istio, add_ons) = (crate::IMAGE_NAMES, AddOnName::ALL.map(AddOnName::as_str));
    rule(
        format!("self.all(name, name in [{}, {}])", quoted(&istio), quoted(&add_ons)),
        format!(
            "images.digests must be for images of Istio, {}, or of add-ons, {}",
            istio.join(", "),
            add_ons.join(", ")
        ),
    )
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

/// On the root: a minor would be another release tomorrow.
pub(crate) fn digests_are_of_one_release() -> Rule {
    rule(
        format!(
            "!has(self.spec.images) || !has(self.spec.images.digests) \
             || self.spec.images.digests.all(name, !(name in [{}])) || self.spec.version.matches('[.].*[.]')",
            quoted(&crate::IMAGE_NAMES)
        ),
        "images.digests of Istio are those of one release: write the version in full, for example 1.31.2",
    )
}

/// On the root: the operator names a canary's revision.
pub(crate) fn a_canary_has_no_revision_of_its_own() -> Rule {
    rule(
        "!has(self.spec.revision) || !has(self.spec.upgrade) || !has(self.spec.upgrade.strategy) \
         || self.spec.upgrade.strategy != 'Canary'",
        "with upgrade.strategy Canary the operator names the revisions: leave revision out",
    )
}

/// A span of time as people and Kubernetes write it.
const IS_DURATION: &str = "self.matches('^([0-9]+h)?([0-9]+m)?([0-9]+s)?$') && self != ''";

/// On how long an unused revision is kept.
pub(crate) fn is_retirement() -> Rule {
    rule(
        format!("{IS_DURATION} && duration(self) <= duration('720h')"),
        "upgrade.retireAfter must be at most 720h, written as 5m, 90s or 0s",
    )
}

/// On a progress deadline. A duration that Kubernetes can read and that a rollout can meet.
pub(crate) fn is_progress_deadline() -> Rule {
    rule(
        format!("{IS_DURATION} && duration(self) >= duration('5s') && duration(self) <= duration('24h')"),
        "upgrade.progressDeadline must be from 5s to 24h, written as 10m, 90s or 1h30m",
    )
}

/// On a time of day; `field` begins the message.
pub(crate) fn is_time_of_day(field: &str) -> Rule {
    rule(
        "self.matches('^([01][0-9]|2[0-3]):[0-5][0-9]$')",
        format!("{field} must be a time of day between \"00:00\" and \"23:59\""),
    )
}

/// On a maintenance window.
pub(crate) fn window_is_not_empty() -> Rule {
    rule(
        "self.start != self.end",
        "a window's start and end are the same; leave windows out if restarts may begin at any time",
    )
}
