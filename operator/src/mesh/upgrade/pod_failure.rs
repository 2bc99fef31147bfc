//! Why a workload's pods don't start: the kubelet's message about a container, the scheduler's about a pod, or the last
//! warning Event about either.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::mesh::kind::Kind;
use crate::mesh::object::ObjectKey;
use crate::mesh::text::shortened;

/// The most bytes of a failure: messages quote images, which any user can choose.
const MAX_FAILURE: usize = 768;

/// Waiting reasons of containers that start normally.
const NORMAL_REASONS: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Why pods don't start. `pods` and `events` belong to one workload and are sorted, the newest last; `None` if no pod
/// or Event shows a failure.
#[must_use]
pub fn pod_failure(pods: &[Value], events: &[Value]) -> Option<String> {
    let newest_first = || pods.iter().rev().filter(|pod| !is_ready(pod));
    newest_first()
        .find_map(waiting_container)
        .or_else(|| newest_first().find_map(unschedulable))
        .or_else(|| newest_first().find_map(crashed_container))
        .or_else(|| events.iter().rev().filter(|event| is_current(event, pods)).find_map(|event| warning(event, pods)))
        .map(|failure| shortened(&failure, MAX_FAILURE))
}

/// Whether an Event still describes the present pods. An Event about a pod that was deleted, or that has become ready or
/// unready since, is about the past; but a pod that crashes repeatedly may be ready in between.
fn is_current(event: &Value, pods: &[Value]) -> bool {
    if text(event, "/involvedObject/kind") != Some("Pod") {
        return true;
    }
    let about = text(event, "/involvedObject/name").unwrap_or_default();
    let Some(pod) = pods.iter().find(|pod| name(pod) == about) else { return false };
    if is_ready(pod) {
        return text(event, "/reason") == Some("BackOff") && containers(pod).any(|c| termination(c).is_some());
    }
    match (last_seen(event), unready_since(pod)) {
        (Some(seen), Some(since)) => seen.as_second() >= since.as_second(),
        _ => true,
    }
}

/// When a pod became unready, or was created if it has never been ready.
fn unready_since(pod: &Value) -> Option<Timestamp> {
    let ready = list(pod, "/status/conditions").find(|condition| text(condition, "/type") == Some("Ready"))?;
    text(ready, "/lastTransitionTime")?.parse().ok()
}

/// The Events about a workload, its ReplicaSets and its pods that were last seen at or after `since`, the newest last.
/// Older ones are about an earlier attempt, since Events are retained for an hour.
#[must_use]
pub fn events_of(workload: &ObjectKey, events: Vec<Value>, since: Timestamp) -> Vec<Value> {
    // Most Events have a resolution of one second.
    let since = since.as_second();
    let dated = events.into_iter().filter(|event| is_about(workload, event));
    let mut dated: Vec<(Timestamp, Value)> = dated.filter_map(|event| Some((last_seen(&event)?, event))).collect();
    dated.retain(|(seen, _)| seen.as_second() >= since);
    dated.sort_by_key(|(seen, _)| *seen);
    dated.into_iter().map(|(_, event)| event).collect()
}

/// When an Event was last seen: repeated Events are counted in one object.
fn last_seen(event: &Value) -> Option<Timestamp> {
    let places = ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/firstTimestamp"];
    places.into_iter().filter_map(|place| text(event, place)?.parse().ok()).max()
}

/// A controller appends one or two generated parts to the workload's name: `istiod-1-32-0` doesn't belong to `istiod`.
fn is_about(workload: &ObjectKey, event: &Value) -> bool {
    let about = text(event, "/involvedObject/kind").zip(text(event, "/involvedObject/name"));
    let Some((kind, rest)) = about.and_then(|(kind, name)| Some((kind, name.strip_prefix(&workload.name)?))) else {
        return false;
    };
    let generated_parts = match (workload.kind, kind) {
        (own, kind) if own.name() == kind => 0,
        (Kind::Deployment, "ReplicaSet") | (Kind::DaemonSet, "Pod") => 1,
        (Kind::Deployment, "Pod") => 2,
        _ => return false,
    };
    rest.split('-').count() == generated_parts + 1 && (rest.is_empty() || rest.starts_with('-'))
}

fn text<'a>(of: &'a Value, path: &str) -> Option<&'a str> {
    of.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn name(pod: &Value) -> &str {
    text(pod, "/metadata/name").unwrap_or_default()
}

fn list<'a>(of: &'a Value, path: &str) -> impl DoubleEndedIterator<Item = &'a Value> {
    of.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

fn is_ready(pod: &Value) -> bool {
    list(pod, "/status/conditions").any(|c| text(c, "/type") == Some("Ready") && text(c, "/status") == Some("True"))
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    list(pod, "/status/initContainerStatuses").chain(list(pod, "/status/containerStatuses"))
}

/// `reason: message`, or the one that is present.
fn reason_and_message(reason: Option<&str>, message: Option<&str>) -> Option<String> {
    match (reason, message) {
        (Some(reason), Some(message)) => Some(format!("{reason}: {message}")),
        (one, other) => one.or(other).map(str::to_owned),
    }
}

fn waiting_container(pod: &Value) -> Option<String> {
    containers(pod).find_map(|container| {
        let reason = text(container, "/state/waiting/reason").filter(|reason| !NORMAL_REASONS.contains(reason))?;
        let detail = reason_and_message(Some(reason), text(container, "/state/waiting/message"))?;
        let terminated = last_terminated(termination(container));
        Some(format!("container {} of Pod {} is waiting: {detail}{terminated}", text(container, "/name")?, name(pod)))
    })
}

fn crashed_container(pod: &Value) -> Option<String> {
    containers(pod).find_map(|container| {
        let end = termination(container)?;
        Some(format!("container {} of Pod {} {end}", text(container, "/name")?, name(pod)))
    })
}

fn last_terminated(end: Option<String>) -> String {
    end.map(|end| format!("; it last {end}")).unwrap_or_default()
}

fn termination(container: &Value) -> Option<String> {
    ["/state/terminated", "/lastState/terminated"].into_iter().find_map(|path| {
        let end = container.pointer(path)?;
        let code = end.get("exitCode").and_then(Value::as_i64)?;
        let detail = reason_and_message(text(end, "/reason"), text(end, "/message")).unwrap_or_default();
        let detail = if detail.is_empty() { detail } else { format!(" ({detail})") };
        Some(format!("terminated with exit code {code}{detail}"))
    })
}

fn unschedulable(pod: &Value) -> Option<String> {
    list(pod, "/status/conditions")
        .find(|c| text(c, "/type") == Some("PodScheduled") && text(c, "/status") == Some("False"))
        .and_then(|condition| reason_and_message(text(condition, "/reason"), text(condition, "/message")))
        .map(|detail| format!("Pod {} is unschedulable: {detail}", name(pod)))
}

/// A pod between two crashes may be ready, so the warning includes its last termination.
fn warning(event: &Value, pods: &[Value]) -> Option<String> {
    if text(event, "/type") != Some("Warning") {
        return None;
    }
    let detail = reason_and_message(text(event, "/reason"), text(event, "/message"))?;
    let Some((kind, about)) = text(event, "/involvedObject/kind").zip(text(event, "/involvedObject/name")) else {
        return Some(detail);
    };
    let pod = pods.iter().find(|pod| kind == "Pod" && name(pod) == about);
    let terminated = last_terminated(pod.and_then(|pod| containers(pod).find_map(termination)));
    Some(format!("{kind} {about}: {detail}{terminated}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: &Value) -> Value {
        json!({"metadata": {"name": "istiod-1"}, "status": status})
    }

    #[test]
    fn reports_image_pull_failure() {
        let status = json!({"containerStatuses": [{"name": "discovery", "state": {"waiting":
            {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"x\""}}}]});
        assert_eq!(
            pod_failure(&[pod(&status)], &[]).unwrap(),
            "container discovery of Pod istiod-1 is waiting: ImagePullBackOff: Back-off pulling image \"x\""
        );
    }

    #[test]
    fn shortens_message_about_huge_image() {
        let image = "x".repeat(900_000);
        let status = json!({"containerStatuses": [{"name": "discovery", "state": {"waiting":
            {"reason": "ImagePullBackOff", "message": format!("Back-off pulling image \"{image}\"")}}}]});
        let failure = pod_failure(&[pod(&status)], &[]).unwrap();
        assert!(failure.len() <= MAX_FAILURE, "{} bytes", failure.len());
        assert!(failure.starts_with("container discovery of Pod istiod-1 is waiting: ImagePullBackOff"), "{failure}");
    }

    #[test]
    fn reports_last_termination_of_crashing_container() {
        let status = json!({"containerStatuses": [{"name": "discovery",
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "Error"}}}]});
        let failure = pod_failure(&[pod(&status)], &[]).unwrap();
        assert!(failure.contains("CrashLoopBackOff; it last terminated with exit code 137 (Error)"), "{failure}");
    }

    #[test]
    fn warning_event_explains_starting_pod() {
        let starting = pod(&json!({"containerStatuses": [{"name": "discovery",
            "state": {"waiting": {"reason": "ContainerCreating"}}}]}));
        assert_eq!(pod_failure(std::slice::from_ref(&starting), &[]), None);
        let probe = json!({"type": "Warning", "reason": "Unhealthy", "message": "Readiness probe failed: 503",
            "involvedObject": {"kind": "Pod", "name": "istiod-1"}});
        let quiet = json!({"type": "Normal", "reason": "Pulled", "message": "ok"});
        let failure = pod_failure(&[starting], &[probe, quiet]);
        assert_eq!(failure.as_deref(), Some("Pod istiod-1: Unhealthy: Readiness probe failed: 503"));
    }

    #[test]
    fn selects_recent_events_of_workload() {
        let event = |kind: &str, name: &str, time: &str, second: u32| json!({"involvedObject": {"kind": kind, "name": name}, time: format!("2026-11-21T10:00:{second:02}Z")});
        let again = json!({"involvedObject": {"kind": "Pod", "name": "istiod-5d4-x2"}, "eventTime": "2026-11-21T09:00:00.5Z",
            "series": {"lastObservedTime": "2026-11-21T10:00:50.5Z"}});
        let events = vec![
            event("Pod", "istiod-5d4-x1", "lastTimestamp", 45),
            again.clone(),
            event("ReplicaSet", "istiod-5d4", "lastTimestamp", 30),
            event("Pod", "istiod-5d4-x0", "lastTimestamp", 29),
            event("Pod", "istiod-1-32-0-5d4-x2", "lastTimestamp", 45),
            event("ReplicaSet", "istiod-1-32-0-5d4", "lastTimestamp", 45),
            event("Deployment", "istiod2", "lastTimestamp", 45),
            event("HorizontalPodAutoscaler", "istiod", "lastTimestamp", 45),
        ];
        let istiod =
            ObjectKey { kind: Kind::Deployment, namespace: Some("istio-system".into()), name: "istiod".into() };
        let failure = events_of(&istiod, events.clone(), "2026-11-21T10:00:30.7Z".parse().unwrap());
        assert_eq!(failure, [events[2].clone(), events[0].clone(), again]);
    }

    #[test]
    fn reports_crashes_of_ready_pod() {
        let between = pod(&json!({"conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "discovery", "state": {"running": {}},
                "lastState": {"terminated": {"exitCode": 137, "reason": "Error"}}}]}));
        let restarted = json!({"type": "Warning", "reason": "BackOff", "message": "Back-off restarting failed container",
            "involvedObject": {"kind": "Pod", "name": "istiod-1"}});
        let failure = pod_failure(&[between], &[restarted]);
        let generated_parts = "Pod istiod-1: BackOff: Back-off restarting failed container; it last terminated with exit code 137 (Error)";
        assert_eq!(failure.as_deref(), Some(generated_parts));
    }

    #[test]
    fn ignores_events_about_past_states() {
        let with_ready = |status: &str, since: &str| {
            let ready = json!({"type": "Ready", "status": status, "lastTransitionTime": since});
            pod(&json!({"conditions": [ready], "containerStatuses": [{"name": "discovery", "state": {"running": {}}}]}))
        };
        let seen = "2026-11-21T10:00:30Z";
        let event = |reason: &str| {
            json!({"type": "Warning", "reason": reason, "message": "m", "lastTimestamp": seen,
                "involvedObject": {"kind": "Pod", "name": "istiod-1"}})
        };
        let reports = |pods: &[Value], reason: &str| pod_failure(pods, &[event(reason)]).is_some();
        assert!(reports(&[with_ready("False", "2026-11-21T10:00:30Z")], "Unhealthy"));
        assert!(!reports(&[with_ready("False", "2026-11-21T10:00:31Z")], "Unhealthy"), "unready for another reason");
        assert!(!reports(&[with_ready("True", "2026-11-21T10:00:10Z")], "Unhealthy"), "ready by now");
        assert!(!reports(&[with_ready("True", "2026-11-21T10:00:10Z")], "BackOff"), "its image was pulled by now");
        assert!(!reports(&[], "Unhealthy"), "deleted");
        let denied = json!({"type": "Warning", "reason": "FailedCreate", "message": "denied", "lastTimestamp": seen,
            "involvedObject": {"kind": "ReplicaSet", "name": "istiod-5d4"}});
        assert!(pod_failure(&[], &[denied]).is_some());
    }

    #[test]
    fn reports_unschedulable_pod() {
        let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "Unschedulable", "message": "0/3 nodes"});
        let nowhere = pod(&json!({"conditions": [condition("PodScheduled", "False")]}));
        assert_eq!(
            pod_failure(&[nowhere], &[]).as_deref(),
            Some("Pod istiod-1 is unschedulable: Unschedulable: 0/3 nodes")
        );
        let fine = json!({"conditions": [condition("Ready", "True")], "containerStatuses": [{"name": "discovery",
            "lastState": {"terminated": {"exitCode": 1}}}]});
        assert_eq!(pod_failure(&[pod(&fine)], &[]), None);
    }
}
