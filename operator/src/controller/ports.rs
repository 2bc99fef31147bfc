//! The node ports of a spec: those that are remembered while they hold good, else a new choice; and how they are reached.

use kube::ResourceExt as _;
use kube::runtime::events::EventType;
use meshwright_api::conditions::Reason;
use meshwright_api::{MeshInstallation, MeshInstallationSpec, NodePortRangeStatus};
use tracing::warn;

use super::context::Context;
use crate::apply::{ApplyError, ErrorClass};
use crate::mesh::health::{Blocker, Health};
use crate::mesh::live::LiveObjects;
use crate::mesh::node::node_addresses;
use crate::mesh::reach::{needs_nodes, show};
use crate::mesh::revision::Record;
use crate::mesh::rollup::reason_of;
use crate::nodeports::{
    Discovery, Held, KnownRange, Need, Origin, Pins, PortRange, PortRefusal, Question, Refused, Want, allocate,
    blocker, reserved, wanted,
};
use crate::platform::Platform;

/// The node ports for a spec. `remembered` is the record of this very spec, if there is one; `last` is the newest.
pub async fn assign(
    context: &Context,
    installation: &MeshInstallation,
    spec: &MeshInstallationSpec,
    platform: Option<&Platform>,
    remembered: Option<&Record>,
    last: Option<&Record>,
) -> Result<Pins, Blocker> {
    let name = installation.name_any();
    let wanted = wanted(spec, platform.and_then(Platform::gateway_service_type));
    let doubtful = context.node_ports.is_doubtful(&name);
    if let Some(record) = remembered
        && !doubtful
        && record.inputs.node_ports.cover(&wanted)
    {
        return Ok(record.inputs.node_ports.clone());
    }
    let memory = last.map(|record| record.inputs.node_ports.clone()).unwrap_or_default();
    let pins = choose(context, &name, spec, platform, &wanted, &memory).await?;
    context.node_ports.settle(&name);
    if doubtful {
        tell_of_moves(context, installation, &wanted, &memory, &pins);
    }
    Ok(pins)
}

async fn choose(
    context: &Context,
    installation: &str,
    spec: &MeshInstallationSpec,
    platform: Option<&Platform>,
    wanted: &[Want],
    memory: &Pins,
) -> Result<Pins, Blocker> {
    let needed = wanted.iter().any(|want| want.need != Need::Idle);
    // Without a need nothing is asked of the server: what is remembered is only carried on.
    let held = if needed { context.node_ports.held(installation).await.map_err(|e| unlisted(&e))? } else { Vec::new() };
    let attempt = |server: &Discovery| pins(spec, platform, server, &held, wanted, memory);
    match attempt(&context.node_ports.range().await) {
        // The range may have changed since it was asked for.
        Err(refused) if refused.iter().any(Refused::hangs_on_the_range) && context.node_ports.ask_again().await => {
            attempt(&context.node_ports.range().await).map_err(|refused| blocker(&refused))
        }
        result => result.map_err(|refused| blocker(&refused)),
    }
}

/// The choice itself, from all that it depends on.
pub fn pins(
    spec: &MeshInstallationSpec,
    platform: Option<&Platform>,
    server: &Discovery,
    held: &[Held],
    wanted: &[Want],
    remembered: &Pins,
) -> Result<Pins, Vec<Refused>> {
    let range = KnownRange::of(&spec.node_ports, server, usual_range(platform))?;
    let reserved = reserved(&spec.node_ports)?;
    allocate(&Question { range: &range, reserved: &reserved, wanted, remembered, held })
}

/// The range that the platform is known to have.
#[must_use]
pub fn usual_range(platform: Option<&Platform>) -> Option<PortRange> {
    platform?.node_port_range()?.to_string().parse().ok()
}

fn unlisted(error: &kube::Error) -> Blocker {
    let message = format!("the node ports that are held can't be listed: {error}");
    Blocker { reason: reason_of(ErrorClass::of(error)), message }
}

/// A port that clients may know by heart has changed: that must not go unsaid.
fn tell_of_moves(context: &Context, installation: &MeshInstallation, wanted: &[Want], memory: &Pins, pins: &Pins) {
    for want in wanted.iter().filter(|want| want.need == Need::Choose) {
        if let (Some((old, _)), Some((new, Origin::Assigned))) = (memory.get(&want.slot), pins.get(&want.slot))
            && old != new
        {
            let note = format!("node port {old} of {} was lost to another Service; it is {new} now", want.slot);
            warn!(installation = installation.name_any(), note, "moved");
            let action = format!("Move{old}");
            context.events.publish(installation, EventType::Warning, Reason::NodePortMoved, &action, &note);
        }
    }
}

/// Fills in how the gateways are reached. Nodes that can't be read are left out.
pub async fn reach(context: &Context, health: &mut Health, live: &LiveObjects) {
    let mut addresses = Vec::new();
    if needs_nodes(&health.gateways, live) {
        match context.nodes.facts().await {
            Ok(nodes) => addresses = node_addresses(&nodes),
            Err(error) => warn!(error = %error, "nodes can't be read; their addresses are left out of status"),
        }
    }
    show(&mut health.gateways, live, &addresses);
}

/// Takes in what failed writes tell of node ports. True when the pins deserve another look.
pub fn learn(context: &Context, installation: &str, failures: &[ApplyError]) -> bool {
    // A server that has no port left to choose says nothing of those that are pinned.
    let refusals: Vec<PortRefusal> =
        failures.iter().filter_map(ApplyError::port_refusal).filter(|refusal| *refusal != PortRefusal::Full).collect();
    for refusal in &refusals {
        context.node_ports.refused(installation, refusal);
    }
    !refusals.is_empty()
}

/// The range in force, as status shows it.
pub fn range_status(context: &Context, installation: &MeshInstallation) -> Option<NodePortRangeStatus> {
    let spec = &installation.spec;
    let known = installation.status.as_ref().and_then(|status| status.platform.name.as_deref());
    let usual = usual_range(known.and_then(|name| context.surveyor.platforms().get(name)));
    let server = context.node_ports.known_range()?;
    let own = KnownRange::of(&spec.node_ports, &server, usual);
    // Where the spec's range is refused, the server's is what a person needs to know.
    let shown = own.or_else(|_| KnownRange::of(&meshwright_api::NodePorts::default(), &server, usual));
    shown.ok().map(|range| range.status())
}
