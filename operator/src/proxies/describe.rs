//! Describes a restart plan for `status.proxies.message`. Pure.

use std::fmt::Display;

use super::index::ProxyGroup;
use super::restart_plan::{RestartPlan, SkipReason, WaitReason};
use super::workload::WorkloadKind;
use crate::mesh::text::{abbreviate, pluralize};

/// Describes a plan and outdated pods that can't be restarted; `None` if there is nothing to report.
#[must_use]
pub fn describe(plan: &RestartPlan, groups: &[(ProxyGroup, usize)], version: &str) -> Option<String> {
    let mut parts = Vec::new();
    if plan.stopped {
        parts.push(list(
            "stopped: restarts of these workloads failed (fix them, or raise spec.proxy.update.maxFailures): ",
            &plan.failed,
        ));
    } else if !plan.failed.is_empty() {
        parts.push(list("restart failed: ", &plan.failed));
    }
    let restarting: Vec<_> = plan.restart.iter().chain(&plan.in_progress).collect();
    if !restarting.is_empty() {
        parts.push(list("restarting: ", &restarting));
    }
    if plan.queued > 0 {
        let window =
            plan.closed_until.map(|start| format!(" until the maintenance window at {start}")).unwrap_or_default();
        parts.push(format!("{} queued{window}", pluralize(plan.queued, "workload")));
    }
    if !plan.waiting.is_empty() {
        let waiting = plan.waiting.iter().map(|(id, reason)| format!("{id} ({})", wait_reason(reason)));
        parts.push(list("waiting: ", &waiting.collect::<Vec<_>>()));
    }
    if !plan.skipped.is_empty() {
        let skipped = plan.skipped.iter().map(|(id, reason)| format!("{id} ({})", skip_reason(reason)));
        parts.push(list("skipped: ", &skipped.collect::<Vec<_>>()));
    }
    let manual = manual(groups, version);
    if !manual.is_empty() {
        parts.push(list("restart manually: ", &manual));
    }
    if plan.not_opted_in > 0 {
        let count = pluralize(plan.not_opted_in, "workload");
        parts.push(format!("{count} without the label {}=restart", meshwright_api::PROXY_UPDATE));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Pods with an outdated proxy that the operator can't restart: those of Jobs and custom controllers, and those
/// without an owner.
fn manual(groups: &[(ProxyGroup, usize)], version: &str) -> Vec<String> {
    let mut names: Vec<String> = groups
        .iter()
        .filter(|(group, _)| group.is_outdated(version) && WorkloadKind::of(&group.owner.kind).is_none())
        .map(|(group, _)| group.workload())
        .collect();
    names.sort();
    names.dedup();
    names
}

fn wait_reason(reason: &WaitReason) -> String {
    match reason {
        WaitReason::Rollout(progress) => format!("its rollout is in progress: {progress}"),
        WaitReason::Budget(name) => format!("PodDisruptionBudget {name} allows no disruption"),
    }
}

fn skip_reason(reason: &SkipReason) -> String {
    match reason {
        SkipReason::Paused => "it is paused".to_owned(),
        SkipReason::RolloutFailed => "its last rollout failed".to_owned(),
        SkipReason::ManualUpdates => "its update strategy requires manual deletion of old pods".to_owned(),
        SkipReason::Unreadable => "it is too large to read; make it smaller, or restart it manually".to_owned(),
        SkipReason::PinnedImage(image) => format!("its pod template sets the proxy image {image}"),
        SkipReason::StillOutdated => {
            "its pods got outdated proxies again after a restart; check the label istio.io/rev of \
                                      its namespace and pods, then run kubectl rollout restart"
                .to_owned()
        }
    }
}

fn list(head: &str, all: &[impl Display]) -> String {
    format!("{head}{}", abbreviate(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxies::proxy_pod::{PodOwner, PodOwnerKind};
    use crate::proxies::workload::WorkloadId;

    fn id(name: &str) -> WorkloadId {
        WorkloadId { namespace: "shop".into(), kind: WorkloadKind::Deployment, name: name.into() }
    }

    fn group(kind: PodOwnerKind, name: &str, version: &str) -> (ProxyGroup, usize) {
        let owner = PodOwner { kind, name: name.into() };
        let (namespace, version, revision) = ("shop".into(), version.into(), "default".into());
        (ProxyGroup { namespace, owner, version, revision, configuration: None }, 1)
    }

    #[test]
    fn no_message_without_outdated_proxies() {
        assert_eq!(describe(&RestartPlan::default(), &[group(PodOwnerKind::Pod, "debug", "1.32.0")], "1.32.0"), None);
    }

    #[test]
    fn lists_workloads_with_reasons() {
        let plan = RestartPlan {
            restart: vec![id("a")],
            in_progress: vec![id("b")],
            waiting: vec![(id("c"), WaitReason::Budget("keep".into()))],
            skipped: vec![(id("d"), SkipReason::Paused)],
            queued: 2,
            not_opted_in: 1,
            closed_until: Some("2026-11-21T22:00:00Z".parse().unwrap()),
            ..RestartPlan::default()
        };
        let groups = [
            group(PodOwnerKind::Pod, "debug", "1.31.2"),
            group(PodOwnerKind::Job, "once", "1.31.2"),
            group(PodOwnerKind::Job, "new", "1.32.0"),
            group(PodOwnerKind::Deployment, "a", "1.31.2"),
        ];
        assert_eq!(
            describe(&plan, &groups, "1.32.0").unwrap(),
            "restarting: Deployment shop/a, Deployment shop/b; \
             2 workloads queued until the maintenance window at 2026-11-21T22:00:00Z; \
             waiting: Deployment shop/c (PodDisruptionBudget keep allows no disruption); \
             skipped: Deployment shop/d (it is paused); \
             restart manually: Job shop/once, Pod shop/debug; \
             1 workload without the label meshwright.dev/proxy-update=restart"
        );
    }

    #[test]
    fn abbreviates_failed_workloads_when_stopped() {
        let failed = (0..7).map(|n| id(&format!("w{n}"))).collect();
        let message =
            describe(&RestartPlan { stopped: true, failed, ..RestartPlan::default() }, &[], "1.32.0").unwrap();
        assert!(message.starts_with("stopped: restarts"), "{message}");
        assert!(message.contains("maxFailures") && message.ends_with("Deployment shop/w4 and 2 more"), "{message}");
    }
}
