//! Node ports and gateway addresses. Assigned node ports are reused from the last revision while they are valid.

use kube::ResourceExt as _;
use kube::runtime::events::EventType;
use meshwright_api::conditions::Reason;
use meshwright_api::{MeshInstallation, MeshInstallationSpec, NodePortRangeStatus};
use tracing::warn;

use super::context::Context;
use crate::apply::{ApplyError, ErrorClass};
use crate::mesh::gateway_addresses::{fill_addresses, needs_nodes};
use crate::mesh::health::{Blocker, Health};
use crate::mesh::node::node_addresses;
use crate::mesh::observed::ObservedObjects;
use crate::mesh::revision::RevisionRecord;
use crate::mesh::rollup::reason_of;
use crate::nodeports::{
    AllocationError, AllocationInput, KnownRange, PinOrigin, Pins, PortRange, PortRejection, PortRequest,
    PortRequirement, RangeDiscovery, UsedPort, allocate, blocker, port_requests, reserved,
};
use crate::platform::Platform;
use crate::runtime::requests::api_error_message;

/// Assigns node ports. `existing` is the revision of this spec, if it has one; `last` is the newest revision.
pub async fn assign_node_ports(
    context: &Context,
    installation: &MeshInstallation,
    spec: &MeshInstallationSpec,
    platform: Option<&Platform>,
    existing: Option<&RevisionRecord>,
    last: Option<&RevisionRecord>,
) -> Result<Pins, Blocker> {
    let name = installation.name_any();
    let requests = port_requests(spec, platform.and_then(Platform::gateway_service_type));
    let is_stale = context.node_ports.needs_revalidation(&name);
    if let Some(record) = existing
        && !is_stale
        && record.inputs.node_ports.cover(&requests)
    {
        return Ok(record.inputs.node_ports.clone());
    }
    let previous = last.map(|record| record.inputs.node_ports.clone()).unwrap_or_default();
    let pins = choose(context, &name, spec, platform, &requests, &previous).await?;
    context.node_ports.mark_valid(&name);
    if is_stale {
        report_reassigned_ports(context, installation, &requests, &previous, &pins);
    }
    Ok(pins)
}

async fn choose(
    context: &Context,
    installation: &str,
    spec: &MeshInstallationSpec,
    platform: Option<&Platform>,
    requests: &[PortRequest],
    previous: &Pins,
) -> Result<Pins, Blocker> {
    let needed = requests.iter().any(|request| request.requirement != PortRequirement::NotNeeded);
    // If no node port is needed, skip the requests and carry the previous assignment over.
    let held = if needed {
        context.node_ports.used_ports(installation).await.map_err(|e| list_failed(&e))?
    } else {
        Vec::new()
    };
    let attempt = |server: &RangeDiscovery| pins(spec, platform, server, &held, requests, previous);
    match attempt(&context.node_ports.range().await) {
        // The range may have changed since it was read.
        Err(refused)
            if refused.iter().any(AllocationError::depends_on_range) && context.node_ports.refresh_range().await =>
        {
            attempt(&context.node_ports.range().await).map_err(|refused| blocker(&refused))
        }
        result => result.map_err(|refused| blocker(&refused)),
    }
}

/// Assigns node ports from the given inputs alone.
pub fn pins(
    spec: &MeshInstallationSpec,
    platform: Option<&Platform>,
    server: &RangeDiscovery,
    held: &[UsedPort],
    requests: &[PortRequest],
    previous: &Pins,
) -> Result<Pins, Vec<AllocationError>> {
    let range = KnownRange::of(&spec.node_ports, server, usual_range(platform))?;
    let reserved = reserved(&spec.node_ports)?;
    allocate(&AllocationInput { range: &range, reserved: &reserved, requests, previous, used: held })
}

/// The platform's default node port range.
#[must_use]
pub fn usual_range(platform: Option<&Platform>) -> Option<PortRange> {
    platform?.node_port_range()?.to_string().parse().ok()
}

fn list_failed(error: &kube::Error) -> Blocker {
    let message = format!("listing Services for their node ports failed: {}", api_error_message(error));
    Blocker { reason: reason_of(ErrorClass::of(error)), message }
}

/// Publishes an Event for each reassigned node port, since firewalls or load balancers may use the old one.
fn report_reassigned_ports(
    context: &Context,
    installation: &MeshInstallation,
    requests: &[PortRequest],
    previous: &Pins,
    pins: &Pins,
) {
    for request in requests.iter().filter(|request| request.requirement == PortRequirement::Assign) {
        if let (Some((old, _)), Some((new, PinOrigin::Assigned))) = (previous.get(&request.key), pins.get(&request.key))
            && old != new
        {
            let note = format!("node port {old} of {} is in use by another Service; reassigned to {new}", request.key);
            warn!(installation = installation.name_any(), note, "node port reassigned");
            let action = format!("Reassign{old}");
            context.events.publish(installation, EventType::Warning, Reason::NodePortReassigned, &action, &note);
        }
    }
}

/// Adds addresses to the gateways' health. If nodes can't be listed, their addresses are omitted.
pub async fn add_gateway_addresses(context: &Context, health: &mut Health, live: &ObservedObjects) {
    let mut addresses = Vec::new();
    if needs_nodes(&health.gateways, live) {
        match context.nodes.facts().await {
            Ok(nodes) => addresses = node_addresses(&nodes),
            Err(error) => warn!(error = %error, "listing nodes failed; status omits their addresses"),
        }
    }
    fill_addresses(&mut health.gateways, live, &addresses);
}

/// Records the node ports that the API server rejected. True if node ports must be assigned again.
pub fn note_rejections(context: &Context, installation: &str, failures: &[ApplyError]) -> bool {
    // A full range says nothing about the assigned ports.
    let refusals: Vec<PortRejection> = failures
        .iter()
        .filter_map(ApplyError::port_rejection)
        .filter(|refusal| *refusal != PortRejection::RangeFull)
        .collect();
    for refusal in &refusals {
        context.node_ports.record_rejection(installation, refusal);
    }
    !refusals.is_empty()
}

/// The effective node port range for status.
pub fn range_status(context: &Context, installation: &MeshInstallation) -> Option<NodePortRangeStatus> {
    let spec = &installation.spec;
    let known = installation.status.as_ref().and_then(|status| status.platform.name.as_deref());
    let usual = usual_range(known.and_then(|name| context.detector.platforms().get(name)));
    let server = context.node_ports.known_range()?;
    let own = KnownRange::of(&spec.node_ports, &server, usual);
    // If the spec's range is invalid, users need to see the API server's.
    let shown = own.or_else(|_| KnownRange::of(&meshwright_api::NodePorts::default(), &server, usual));
    shown.ok().map(|range| range.status())
}
