//! A decision in words, for status. Pure.

use std::fmt::Display;

use super::census::Group;
use super::decide::{Decision, Skip, Wait};
use super::workload::WorkloadKind;
use crate::mesh::words::{count, few};

/// What there is to say of a decision and of the mesh's proxies; `None`: all are of its version.
#[must_use]
pub fn tell(decision: &Decision, groups: &[(Group, usize)], version: &str) -> Option<String> {
    let mut parts = Vec::new();
    if decision.stopped {
        parts.push(list(
            "stopped, since after their restart these didn't come up (mend them, or raise spec.proxy.update.maxFailures): ",
            &decision.failed,
        ));
    } else if !decision.failed.is_empty() {
        parts.push(list("restarted and not come up: ", &decision.failed));
    }
    let moving: Vec<_> = decision.restart.iter().chain(&decision.under_way).collect();
    if !moving.is_empty() {
        parts.push(list("being restarted: ", &moving));
    }
    if decision.queued > 0 {
        let window =
            decision.closed_until.map(|then| format!(", from {then} on when a window opens")).unwrap_or_default();
        parts.push(format!("{} to be restarted{window}", count(decision.queued, "workload")));
    }
    if !decision.waiting.is_empty() {
        let waiting = decision.waiting.iter().map(|(id, what)| format!("{id} ({})", wait(what)));
        parts.push(list("waiting: ", &waiting.collect::<Vec<_>>()));
    }
    if !decision.skipped.is_empty() {
        let skipped = decision.skipped.iter().map(|(id, why)| format!("{id} ({})", skip(why)));
        parts.push(list("skipped: ", &skipped.collect::<Vec<_>>()));
    }
    let by_hand = by_hand(groups, version);
    if !by_hand.is_empty() {
        parts.push(list("to be made anew by hand: ", &by_hand));
    }
    if decision.not_allowed > 0 {
        let count = count(decision.not_allowed, "workload");
        parts.push(format!("{count} without the label {}=restart", meshwright_api::PROXY_UPDATE));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Pods with an outdated proxy that no restart reaches: of Jobs, of nobody, of controllers that aren't Kubernetes' own.
fn by_hand(groups: &[(Group, usize)], version: &str) -> Vec<String> {
    let mut names: Vec<String> = groups
        .iter()
        .filter(|(group, _)| group.is_outdated(version) && WorkloadKind::of(&group.owner.kind).is_none())
        .map(|(group, _)| format!("{} {}/{}", group.owner.kind, group.namespace, group.owner.name))
        .collect();
    names.sort();
    names.dedup();
    names
}

fn wait(wait: &Wait) -> String {
    match wait {
        Wait::Rollout(progress) => format!("its own rollout is under way: {progress}"),
        Wait::Budget(name) => format!("PodDisruptionBudget {name} allows no disruption"),
    }
}

fn skip(skip: &Skip) -> String {
    match skip {
        Skip::Paused => "it is paused".to_owned(),
        Skip::Stuck => "its last rollout has failed".to_owned(),
        Skip::ByHand => "its update strategy leaves old pods to a person".to_owned(),
        Skip::Pinned(image) => format!("its template asks for the proxy {image}"),
        Skip::StillOutdated => "it was restarted, and its proxies are still outdated".to_owned(),
    }
}

fn list(head: &str, all: &[impl Display]) -> String {
    format!("{head}{}", few(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxies::pod::{Owner, OwnerKind};
    use crate::proxies::workload::WorkloadId;

    fn id(name: &str) -> WorkloadId {
        WorkloadId { namespace: "shop".into(), kind: WorkloadKind::Deployment, name: name.into() }
    }

    fn group(kind: OwnerKind, name: &str, version: &str) -> (Group, usize) {
        let owner = Owner { kind, name: name.into() };
        (Group { namespace: "shop".into(), owner, version: version.into(), revision: "default".into() }, 1)
    }

    #[test]
    fn a_mesh_whose_proxies_are_all_of_its_version_has_nothing_to_say() {
        assert_eq!(tell(&Decision::default(), &[group(OwnerKind::Pod, "debug", "1.32.0")], "1.32.0"), None);
    }

    #[test]
    fn everything_that_stands_is_named_with_its_reason() {
        let decision = Decision {
            restart: vec![id("a")],
            under_way: vec![id("b")],
            waiting: vec![(id("c"), Wait::Budget("keep".into()))],
            skipped: vec![(id("d"), Skip::Paused)],
            queued: 2,
            not_allowed: 1,
            closed_until: Some("2026-11-21T22:00:00Z".parse().unwrap()),
            ..Decision::default()
        };
        let groups = [
            group(OwnerKind::Pod, "debug", "1.31.2"),
            group(OwnerKind::Job, "once", "1.31.2"),
            group(OwnerKind::Job, "new", "1.32.0"),
            group(OwnerKind::Deployment, "a", "1.31.2"),
        ];
        assert_eq!(
            tell(&decision, &groups, "1.32.0").unwrap(),
            "being restarted: Deployment shop/a, Deployment shop/b; \
             2 workloads to be restarted, from 2026-11-21T22:00:00Z on when a window opens; \
             waiting: Deployment shop/c (PodDisruptionBudget keep allows no disruption); \
             skipped: Deployment shop/d (it is paused); \
             to be made anew by hand: Job shop/once, Pod shop/debug; \
             1 workload without the label meshwright.dev/proxy-update=restart"
        );
    }

    #[test]
    fn a_stop_says_what_failed_and_how_to_go_on_and_stays_short() {
        let failed = (0..7).map(|n| id(&format!("w{n}"))).collect();
        let told = tell(&Decision { stopped: true, failed, ..Decision::default() }, &[], "1.32.0").unwrap();
        assert!(told.starts_with("stopped, since"), "{told}");
        assert!(told.contains("maxFailures") && told.ends_with("Deployment shop/w4 and 2 more"), "{told}");
    }
}
