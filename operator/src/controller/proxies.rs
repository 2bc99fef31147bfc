//! Proxies, after everything else: what a reconcile does for those that are behind the mesh.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::events::EventType;
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::Reason;
use tracing::warn;

use super::context::Context;
use crate::proxies::{Decision, Group, InUse, Policy, ProxyUpdateError, decide, in_use, is_outdated, tell, told_by};

/// While something is being restarted, or could be next.
const NEXT_LOOK: Duration = Duration::from_secs(5);
/// While what is outdated waits for something, or for a person.
const LATER: Duration = Duration::from_secs(30);
/// While no window is open.
const CLOSED: Duration = Duration::from_mins(5);

/// What came of a look at the workloads.
enum Looked {
    Decided(Decision),
    /// New pods get this proxy, which isn't the mesh's.
    InVain(Option<String>),
}

/// Restarts what `spec.proxy.update` allows to be restarted now, in a mesh of this version that is Ready. Answers when to
/// come again; what there is to say is noted for status.
pub async fn update(context: &Context, installation: &MeshInstallation, version: &str) -> Option<Duration> {
    let name = installation.name_any();
    // What is wrong with it has been told before it was accepted.
    let policy = Policy::read(&installation.spec.proxy.update).ok().filter(|policy| policy.restart);
    let Some(policy) = policy else {
        context.proxies.note(&name, None);
        return None;
    };
    let Some(groups) = context.proxies.groups(&context.revision_names(installation)) else { return Some(NEXT_LOOK) };
    if !groups.iter().any(|(group, _)| group.is_outdated(version)) {
        context.proxies.note(&name, None);
        return None;
    }
    let now = Timestamp::now();
    match restart(context, installation, &policy, version, &groups, now).await {
        Ok(Looked::Decided(decision)) => {
            context.proxies.note(&name, tell(&decision, &groups, version));
            Some(again(&decision, now))
        }
        Ok(Looked::InVain(image)) => {
            let given = image.map_or_else(|| "can't be told".to_owned(), |image| format!("is {image}"));
            let message =
                format!("restarts wait: the proxy that new pods get {given}, and the mesh's version is {version}");
            context.proxies.note(&name, Some(message));
            Some(LATER)
        }
        Err(error) => {
            warn!(installation = name, error = %error, "outdated proxies stay as they are");
            context.proxies.note(&name, Some(error.to_string()));
            Some(LATER)
        }
    }
}

/// Says that a mesh which isn't Ready restarts nothing.
pub fn hold(context: &Context, installation: &MeshInstallation) {
    context.proxies.note(&installation.name_any(), None);
}

async fn restart(
    context: &Context,
    installation: &MeshInstallation,
    policy: &Policy,
    version: &str,
    groups: &[(Group, usize)],
    now: Timestamp,
) -> Result<Looked, ProxyUpdateError> {
    // Users can choose an image for all proxies.
    let image = context.prober.image(&installation.name_any());
    if image.as_deref().is_none_or(|image| is_outdated(&told_by(image), version)) {
        return Ok(Looked::InVain(image));
    }
    let candidates = context.restarts.candidates(version, groups).await?;
    let decision = decide(now, policy, version, &candidates);
    for candidate in candidates.iter().filter(|candidate| decision.restart.contains(&candidate.workload.id)) {
        let id = &candidate.workload.id;
        if context.restarts.restart(&candidate.workload, version, now).await? {
            let note = format!("{id} is restarted: its proxies are not of version {version}");
            // Events of one action are told as one.
            let action: String = format!("Restart {id}").chars().take(128).collect();
            context.events.publish(installation, EventType::Normal, Reason::ProxyRestarted, &action, &note);
        }
    }
    Ok(Looked::Decided(decision))
}

fn again(decision: &Decision, now: Timestamp) -> Duration {
    let Decision { restart, under_way, queued, stopped, closed_until, .. } = decision;
    if !restart.is_empty() || !under_way.is_empty() {
        return NEXT_LOOK;
    }
    match closed_until {
        Some(then) => Duration::try_from(then.duration_since(now)).unwrap_or(NEXT_LOOK).clamp(NEXT_LOOK, CLOSED),
        None if *queued > 0 && !stopped => NEXT_LOOK,
        None => LATER,
    }
}

/// The pods that still need the mesh. Of a first look at the watch it is enough to know that there are some; that there
/// are none is asked of the API server.
pub async fn users(
    context: &Context,
    installation: &str,
    revisions: &[String],
    ambient: bool,
) -> Result<InUse, kube::Error> {
    let own = context.inventory.workload_names(installation);
    match context.proxies.others(revisions, &own) {
        Some(proxies) if proxies > 0 => Ok(InUse { proxies, ambient: 0 }),
        _ => in_use(&context.clients.requests, revisions, &own, ambient).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_not_slept_through_and_not_looked_for_all_the_time() {
        let now = Timestamp::UNIX_EPOCH;
        let closed = |seconds: i64| Decision {
            queued: 1,
            closed_until: Timestamp::from_second(seconds).ok(),
            ..Decision::default()
        };
        assert_eq!(again(&closed(86_400), now), CLOSED);
        assert_eq!(again(&closed(60), now), Duration::from_mins(1));
        assert_eq!(again(&closed(0), now), NEXT_LOOK);
        assert_eq!(again(&Decision::default(), now), LATER);
        assert_eq!(again(&Decision { queued: 1, ..Decision::default() }, now), NEXT_LOOK);
        assert_eq!(again(&Decision { queued: 1, stopped: true, ..Decision::default() }, now), LATER);
    }
}
