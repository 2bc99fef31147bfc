//! Proxy updates: restarts workloads with outdated proxies after the mesh is Ready.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::events::EventType;
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::Reason;
use tracing::warn;

use super::context::Context;
use super::resolved_revision::ResolvedRevision;
use crate::mesh::health::RetiringRevision;
use crate::mesh::injected_configuration::injected_configuration;
use crate::proxies::{
    MeshUsage, ProxyGroup, ProxyTarget, ProxyUpdateError, RestartPlan, RestartPolicy, ServingProxies, count_usage,
    describe, is_outdated, list, plan_restarts, version_or_unknown,
};
use crate::runtime::requests::api_error_message;

/// Interval while workloads are being restarted or queued.
const ACTIVE_RECHECK: Duration = Duration::from_secs(5);
/// Interval while outdated workloads wait for another condition or a user.
const BLOCKED_RECHECK: Duration = Duration::from_secs(30);
/// The longest interval while no maintenance window is open.
const CLOSED_RECHECK: Duration = Duration::from_mins(5);

/// The result of one pass over the workloads.
enum RestartAttempt {
    Planned(RestartPlan),
    /// New pods get this proxy image, which is not of the mesh's version.
    WrongImage(Option<String>),
}

/// Restarts the workloads that `spec.proxy.update` allows to be restarted now, in a Ready mesh of this version. Returns
/// when to run again, and stores a message for status.
pub async fn update(context: &Context, installation: &MeshInstallation, version: &str) -> Option<Duration> {
    let name = installation.name_any();
    // An invalid policy was reported before the spec was accepted.
    let policy = RestartPolicy::parse(&installation.spec.proxy.update).ok().filter(|policy| policy.restart);
    let Some(policy) = policy else {
        context.proxies.set_message(&name, None);
        return None;
    };
    let Some(groups) = context.proxies.groups(&context.revision_names(installation)) else {
        return Some(ACTIVE_RECHECK);
    };
    if !groups.iter().any(|(group, _)| group.is_outdated(version)) {
        context.proxies.set_message(&name, None);
        return None;
    }
    let now = Timestamp::now();
    match restart(context, installation, &policy, version, &groups, now).await {
        Ok(RestartAttempt::Planned(plan)) => {
            context.proxies.set_message(&name, describe(&plan, &groups, version));
            Some(requeue_interval(&plan, now))
        }
        Ok(RestartAttempt::WrongImage(image)) => {
            let injected = image.map_or_else(|| "an unknown proxy".to_owned(), |image| format!("proxy {image}"));
            let message = format!("restarts paused: new pods get {injected}, but the mesh's version is {version}");
            context.proxies.set_message(&name, Some(message));
            Some(BLOCKED_RECHECK)
        }
        Err(error) => {
            warn!(installation = name, error = %error, "restarting outdated proxies failed");
            context.proxies.set_message(&name, Some(error.to_string()));
            Some(BLOCKED_RECHECK)
        }
    }
}

/// Sets the configuration that running proxies are compared with, once new pods get it. While another revision is rolled
/// out, they may get either.
pub fn compare_configuration(
    context: &Context,
    installation: &str,
    accepted: &ResolvedRevision,
    is_complete: bool,
    is_ready: bool,
) {
    if !is_complete {
        context.proxies.clear_configuration(installation);
    } else if is_ready {
        let hash = injected_configuration(&accepted.validated, &accepted.desired);
        context.proxies.set_configuration(installation, accepted.validated.revision.label(), hash);
    }
}

/// Clears the message in status: a mesh that is not Ready restarts nothing.
pub fn suspend(context: &Context, installation: &MeshInstallation) {
    context.proxies.set_message(&installation.name_any(), None);
}

async fn restart(
    context: &Context,
    installation: &MeshInstallation,
    policy: &RestartPolicy,
    version: &str,
    groups: &[(ProxyGroup, usize)],
    now: Timestamp,
) -> Result<RestartAttempt, ProxyUpdateError> {
    // A user may have set an image for all proxies.
    let image = context.injection_checker.image(&installation.name_any());
    if image.as_deref().is_none_or(|image| is_outdated(&version_or_unknown(image), version)) {
        return Ok(RestartAttempt::WrongImage(image));
    }
    let candidates = context.restarts.candidates(version, groups).await?;
    let target = ProxyTarget { version, since: rollout_start(installation) };
    let plan = plan_restarts(now, policy, target, &candidates);
    for candidate in candidates.iter().filter(|candidate| plan.restart.contains(&candidate.workload.id)) {
        let id = &candidate.workload.id;
        if context.restarts.restart(&candidate.workload, version, now).await? {
            let note = format!("restarting {id}, since its proxies are not of version {version}");
            // Events with the same action would be aggregated.
            let action: String = format!("Restart {id}").chars().take(128).collect();
            context.events.publish(installation, EventType::Normal, Reason::ProxyRestarted, &action, &note);
        }
    }
    Ok(RestartAttempt::Planned(plan))
}

/// When the rollout of the current spec started: the last upgrade, or the first install.
fn rollout_start(installation: &MeshInstallation) -> Option<Timestamp> {
    let upgrade = installation.status.as_ref().and_then(|status| status.upgrade.as_ref());
    let created = installation.metadata.creation_timestamp.as_ref();
    upgrade.map(|upgrade| upgrade.started_at.0).max(created.map(|created| created.0))
}

fn requeue_interval(plan: &RestartPlan, now: Timestamp) -> Duration {
    let RestartPlan { restart, in_progress, queued, stopped, closed_until, .. } = plan;
    if !restart.is_empty() || !in_progress.is_empty() {
        return ACTIVE_RECHECK;
    }
    match closed_until {
        Some(then) => {
            Duration::try_from(then.duration_since(now)).unwrap_or(ACTIVE_RECHECK).clamp(ACTIVE_RECHECK, CLOSED_RECHECK)
        }
        None if *queued > 0 && !stopped => ACTIVE_RECHECK,
        None => BLOCKED_RECHECK,
    }
}

/// The pods that still use the mesh. A count of zero from the watch is confirmed by listing them.
pub async fn users(
    context: &Context,
    installation: &str,
    revisions: &[String],
    ambient: bool,
) -> Result<MeshUsage, kube::Error> {
    let own = context.inventory.workload_names(installation);
    match context.proxies.count_users(revisions, &own) {
        Some(proxies) if proxies > 0 => Ok(MeshUsage { proxies, ambient: 0 }),
        _ => count_usage(&context.clients.requests, revisions, &own, ambient).await,
    }
}

/// A previous control plane with the number of pods that use it, which are listed before it is deleted: the watch may
/// lack some. The number counts for `interval`, since each reconcile needs it while pods are found or deletes wait.
pub async fn listed_users(
    context: &Context,
    installation: &str,
    revision: &str,
    interval: Duration,
) -> RetiringRevision {
    if let Some(known) = context.cache.listed_users(installation, revision, interval) {
        return known;
    }
    let (revisions, own) = ([revision.to_owned()], context.inventory.workload_names(installation));
    let pods = match count_usage(&context.clients.requests, &revisions, &own, false).await {
        Ok(users) => Some(users.total()),
        Err(error) => {
            let error = api_error_message(&error);
            warn!(installation, revision, error, "listing pods with a proxy failed; the control plane is retained");
            None
        }
    };
    let retained = RetiringRevision { revision: revision.to_owned(), pods };
    context.cache.store_listed_users(installation, retained.clone());
    retained
}

/// The proxies of serving pods, which delay an upgrade. While the watch doesn't know them, they are listed; without the
/// permission they stay unknown.
pub async fn serving_proxies(context: &Context, installation: &MeshInstallation) -> Vec<ServingProxies> {
    let revisions = context.revision_names(installation);
    if let Some(known) = context.proxies.serving(&revisions) {
        return known;
    }
    match list(&context.clients.requests).await {
        Ok(index) => index.serving(&revisions),
        Err(error) => {
            warn!(
                error = api_error_message(&error),
                "listing pods with a proxy failed; the upgrade doesn't wait for them"
            );
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requeues_by_the_next_maintenance_window() {
        let now = Timestamp::UNIX_EPOCH;
        let closed = |seconds: i64| RestartPlan {
            queued: 1,
            closed_until: Timestamp::from_second(seconds).ok(),
            ..RestartPlan::default()
        };
        assert_eq!(requeue_interval(&closed(86_400), now), CLOSED_RECHECK);
        assert_eq!(requeue_interval(&closed(60), now), Duration::from_mins(1));
        assert_eq!(requeue_interval(&closed(0), now), ACTIVE_RECHECK);
        assert_eq!(requeue_interval(&RestartPlan::default(), now), BLOCKED_RECHECK);
        assert_eq!(requeue_interval(&RestartPlan { queued: 1, ..RestartPlan::default() }, now), ACTIVE_RECHECK);
        assert_eq!(
            requeue_interval(&RestartPlan { queued: 1, stopped: true, ..RestartPlan::default() }, now),
            BLOCKED_RECHECK
        );
    }
}
