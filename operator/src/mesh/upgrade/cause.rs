//! Why a workload's pods don't come up, in words that a person can act on: what the kubelet says of a container, what the
//! scheduler says of a pod, or the last warning about either.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::mesh::kind::Kind;
use crate::mesh::object::ObjectKey;

/// Reasons for which a container waits that are no trouble.
const NO_TROUBLE: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Why pods don't come up. `pods` and `events` are those of one workload, the newest last; `None` where all are well or
/// nothing is told.
#[must_use]
pub fn cause(pods: &[Value], events: &[Value]) -> Option<String> {
    let newest_first = || pods.iter().rev().filter(|pod| !is_ready(pod));
    newest_first()
        .find_map(waiting)
        .or_else(|| newest_first().find_map(unschedulable))
        .or_else(|| newest_first().find_map(crashed))
        .or_else(|| events.iter().rev().find_map(|event| warning(event, pods)))
}

/// The events about a workload, its ReplicaSets and its pods, that were seen `since` then, the newest last. Events live for
/// an hour: what was said of an earlier try is no cause of this one's failure.
#[must_use]
pub fn told_of(workload: &ObjectKey, events: Vec<Value>, since: Timestamp) -> Vec<Value> {
    // Most events have whole seconds.
    let since = since.as_second();
    let dated = events.into_iter().filter(|event| is_about(workload, event));
    let mut dated: Vec<(Timestamp, Value)> = dated.filter_map(|event| Some((seen_last(&event)?, event))).collect();
    dated.retain(|(seen, _)| seen.as_second() >= since);
    dated.sort_by_key(|(seen, _)| *seen);
    dated.into_iter().map(|(_, event)| event).collect()
}

/// When an event was seen last: it is written once, and counted from then on.
fn seen_last(event: &Value) -> Option<Timestamp> {
    let places = ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/firstTimestamp"];
    places.into_iter().filter_map(|place| text(event, place)?.parse().ok()).max()
}

/// Names of what a workload makes are its own with random words behind: `istiod-1-32-0` is nothing of `istiod`.
fn is_about(workload: &ObjectKey, event: &Value) -> bool {
    let about = text(event, "/involvedObject/kind").zip(text(event, "/involvedObject/name"));
    let Some((kind, rest)) = about.and_then(|(kind, name)| Some((kind, name.strip_prefix(&workload.name)?))) else {
        return false;
    };
    let words = match (workload.kind, kind) {
        (own, kind) if own.name() == kind => 0,
        (Kind::Deployment, "ReplicaSet") | (Kind::DaemonSet, "Pod") => 1,
        (Kind::Deployment, "Pod") => 2,
        _ => return false,
    };
    rest.split('-').count() == words + 1 && (rest.is_empty() || rest.starts_with('-'))
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

/// `reason: message`, or what of the two there is.
fn said(reason: Option<&str>, message: Option<&str>) -> Option<String> {
    match (reason, message) {
        (Some(reason), Some(message)) => Some(format!("{reason}: {message}")),
        (one, other) => one.or(other).map(str::to_owned),
    }
}

fn waiting(pod: &Value) -> Option<String> {
    containers(pod).find_map(|container| {
        let reason = text(container, "/state/waiting/reason").filter(|reason| !NO_TROUBLE.contains(reason))?;
        let why = said(Some(reason), text(container, "/state/waiting/message"))?;
        let ended = before(last_end(container));
        Some(format!("container {} of pod {} waits: {why}{ended}", text(container, "/name")?, name(pod)))
    })
}

fn crashed(pod: &Value) -> Option<String> {
    containers(pod).find_map(|container| {
        let end = last_end(container)?;
        Some(format!("container {} of pod {} {end}", text(container, "/name")?, name(pod)))
    })
}

fn before(end: Option<String>) -> String {
    end.map(|end| format!("; before, it {end}")).unwrap_or_default()
}

fn last_end(container: &Value) -> Option<String> {
    ["/state/terminated", "/lastState/terminated"].into_iter().find_map(|path| {
        let end = container.pointer(path)?;
        let code = end.get("exitCode").and_then(Value::as_i64)?;
        let why = said(text(end, "/reason"), text(end, "/message")).unwrap_or_default();
        let why = if why.is_empty() { why } else { format!(" ({why})") };
        Some(format!("ended with exit code {code}{why}"))
    })
}

fn unschedulable(pod: &Value) -> Option<String> {
    list(pod, "/status/conditions")
        .find(|c| text(c, "/type") == Some("PodScheduled") && text(c, "/status") == Some("False"))
        .and_then(|condition| said(text(condition, "/reason"), text(condition, "/message")))
        .map(|why| format!("pod {} finds no node: {why}", name(pod)))
}

/// A pod between two crashes may well be ready, so its last end is told with the warning about it.
fn warning(event: &Value, pods: &[Value]) -> Option<String> {
    if text(event, "/type") != Some("Warning") {
        return None;
    }
    let why = said(text(event, "/reason"), text(event, "/message"))?;
    let Some((kind, about)) = text(event, "/involvedObject/kind").zip(text(event, "/involvedObject/name")) else {
        return Some(why);
    };
    let pod = pods.iter().find(|pod| kind == "Pod" && name(pod) == about);
    let ended = before(pod.and_then(|pod| containers(pod).find_map(last_end)));
    Some(format!("{kind} {about}: {why}{ended}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: &Value) -> Value {
        json!({"metadata": {"name": "istiod-1"}, "status": status})
    }

    #[test]
    fn an_image_that_is_not_there_is_told_in_the_kubelets_words() {
        let status = json!({"containerStatuses": [{"name": "discovery", "state": {"waiting":
            {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"x\""}}}]});
        assert_eq!(
            cause(&[pod(&status)], &[]).unwrap(),
            "container discovery of pod istiod-1 waits: ImagePullBackOff: Back-off pulling image \"x\""
        );
    }

    #[test]
    fn a_container_that_crashes_is_told_with_its_last_end() {
        let status = json!({"containerStatuses": [{"name": "discovery",
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "Error"}}}]});
        let told = cause(&[pod(&status)], &[]).unwrap();
        assert!(told.contains("CrashLoopBackOff; before, it ended with exit code 137 (Error)"), "{told}");
    }

    #[test]
    fn what_merely_starts_is_no_cause_and_a_warning_about_it_is() {
        let starting = pod(&json!({"containerStatuses": [{"name": "discovery",
            "state": {"waiting": {"reason": "ContainerCreating"}}}]}));
        assert_eq!(cause(std::slice::from_ref(&starting), &[]), None);
        let probe = json!({"type": "Warning", "reason": "Unhealthy", "message": "Readiness probe failed: 503",
            "involvedObject": {"kind": "Pod", "name": "istiod-1"}});
        let quiet = json!({"type": "Normal", "reason": "Pulled", "message": "ok"});
        let told = cause(&[starting], &[probe, quiet]);
        assert_eq!(told.as_deref(), Some("Pod istiod-1: Unhealthy: Readiness probe failed: 503"));
    }

    #[test]
    fn only_what_was_said_of_the_workload_since_then_counts() {
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
        let told = told_of(&istiod, events.clone(), "2026-11-21T10:00:30.7Z".parse().unwrap());
        assert_eq!(told, [events[2].clone(), events[0].clone(), again]);
    }

    #[test]
    fn a_pod_that_is_ready_between_two_crashes_is_told_with_its_last_end() {
        let between = pod(&json!({"conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "discovery", "state": {"running": {}},
                "lastState": {"terminated": {"exitCode": 137, "reason": "Error"}}}]}));
        let restarted = json!({"type": "Warning", "reason": "BackOff", "message": "Back-off restarting failed container",
            "involvedObject": {"kind": "Pod", "name": "istiod-1"}});
        let told = cause(&[between], &[restarted]);
        let words =
            "Pod istiod-1: BackOff: Back-off restarting failed container; before, it ended with exit code 137 (Error)";
        assert_eq!(told.as_deref(), Some(words));
    }

    #[test]
    fn a_pod_that_fits_nowhere_is_told_and_one_that_is_ready_is_not() {
        let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "Unschedulable", "message": "0/3 nodes"});
        let nowhere = pod(&json!({"conditions": [condition("PodScheduled", "False")]}));
        assert_eq!(cause(&[nowhere], &[]).as_deref(), Some("pod istiod-1 finds no node: Unschedulable: 0/3 nodes"));
        let fine = json!({"conditions": [condition("Ready", "True")], "containerStatuses": [{"name": "discovery",
            "lastState": {"terminated": {"exitCode": 1}}}]});
        assert_eq!(cause(&[pod(&fine)], &[]), None);
    }
}
