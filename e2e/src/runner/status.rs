//! Computes a Pod's status like the kubelet.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    Event, EventSource, HostIP, ObjectReference, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

/// State of a Pod.
#[derive(Debug, Clone)]
pub(super) struct PodReport {
    pub(super) pod_ip: String,
    pub(super) host_ip: String,
    pub(super) phase: &'static str,
    pub(super) ready: bool,
    pub(super) restarts: i32,
    pub(super) state: ContainerState,
    pub(super) last_state: Option<ContainerState>,
    started: Timestamp,
    /// Time of the last readiness change.
    ready_changed: Timestamp,
}

impl PodReport {
    pub(super) fn new(pod_ip: String, host_ip: String, now: Timestamp) -> Self {
        let state = waiting("ContainerCreating", String::new());
        Self {
            pod_ip,
            host_ip,
            phase: "Pending",
            ready: false,
            restarts: 0,
            state,
            last_state: None,
            started: now,
            ready_changed: now,
        }
    }

    /// The container is waiting for the given reason.
    pub(super) fn wait(&mut self, reason: &str, message: String, now: Timestamp) {
        self.state = waiting(reason, message);
        self.set_ready(false, now);
    }

    /// The process is running.
    pub(super) fn run(&mut self, ready: bool, now: Timestamp) {
        self.phase = "Running";
        self.state = ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(second(now)) }),
            ..ContainerState::default()
        };
        self.set_ready(ready, now);
    }

    /// The process has exited with a code or was killed by a signal.
    pub(super) fn end(&mut self, code: Option<i32>, signal: Option<i32>, now: Timestamp) {
        let started = self.state.running.as_ref().and_then(|running| running.started_at.clone());
        let exit_code = code.unwrap_or_else(|| 128 + signal.unwrap_or_default());
        let ended = ContainerStateTerminated {
            exit_code,
            signal,
            reason: Some(if exit_code == 0 { "Completed" } else { "Error" }.to_owned()),
            started_at: started,
            finished_at: Some(second(now)),
            ..ContainerStateTerminated::default()
        };
        self.state = ContainerState { terminated: Some(ended), ..ContainerState::default() };
        self.set_ready(false, now);
    }

    /// The container restarts after `seconds`; its terminated state becomes the last state.
    pub(super) fn back_off(&mut self, container: &str, seconds: u64, now: Timestamp) {
        self.restarts += 1;
        let message = format!("back-off {seconds}s restarting failed container={container}");
        self.last_state = Some(std::mem::replace(&mut self.state, waiting("CrashLoopBackOff", message)));
        self.set_ready(false, now);
    }

    pub(super) fn set_ready(&mut self, ready: bool, now: Timestamp) {
        if self.ready != ready {
            self.ready = ready;
            self.ready_changed = now;
        }
    }

    /// The Pod's status for a strategic merge patch, which preserves the scheduler's condition.
    pub(super) fn status(&self, pod: &Pod, main_container: &str) -> PodStatus {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let statuses = containers.map(|container| self.container(container, container.name == main_container));
        PodStatus {
            phase: Some(self.phase.to_owned()),
            conditions: Some(self.conditions()),
            container_statuses: Some(statuses.collect()),
            host_ip: Some(self.host_ip.clone()),
            host_ips: Some(vec![HostIP { ip: self.host_ip.clone() }]),
            pod_ip: Some(self.pod_ip.clone()),
            pod_ips: Some(vec![PodIP { ip: self.pod_ip.clone() }]),
            start_time: Some(second(self.started)),
            ..PodStatus::default()
        }
    }

    fn conditions(&self) -> Vec<PodCondition> {
        let condition = |kind: &str, status: bool, since: Timestamp, reason: Option<&str>| PodCondition {
            type_: kind.to_owned(),
            status: if status { "True" } else { "False" }.to_owned(),
            last_transition_time: Some(second(since)),
            reason: reason.map(str::to_owned),
            ..PodCondition::default()
        };
        let reason = match (self.ready, self.phase) {
            (true, _) => None,
            (false, "Succeeded") => Some("PodCompleted"),
            (false, _) => Some("ContainersNotReady"),
        };
        vec![
            condition("PodReadyToStartContainers", true, self.started, None),
            condition("Initialized", true, self.started, None),
            condition("Ready", self.ready, self.ready_changed, reason),
            condition("ContainersReady", self.ready, self.ready_changed, reason),
        ]
    }

    fn container(&self, container: &Container, is_main: bool) -> ContainerStatus {
        let running = self.state.running.is_some();
        ContainerStatus {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            ready: if is_main { self.ready } else { running },
            started: Some(running),
            restart_count: if is_main { self.restarts } else { 0 },
            state: Some(self.state.clone()),
            last_state: if is_main { self.last_state.clone() } else { None },
            ..ContainerStatus::default()
        }
    }
}

fn waiting(reason: &str, message: String) -> ContainerState {
    let waiting = ContainerStateWaiting {
        reason: Some(reason.to_owned()),
        message: Some(message).filter(|message| !message.is_empty()),
    };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

/// Kubernetes API times have a resolution of one second.
fn second(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// A warning Event about a Pod's container, as the kubelet emits it.
pub(super) fn event(pod: &Pod, container: &str, reason: &str, message: String, now: Timestamp) -> Event {
    let now = Some(second(now));
    let mut event = Event {
        type_: Some("Warning".to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message),
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace(),
            name: pod.metadata.name.clone(),
            uid: pod.uid(),
            field_path: Some(format!("spec.containers{{{container}}}")),
            ..ObjectReference::default()
        },
        source: Some(EventSource {
            component: Some("kubelet".to_owned()),
            host: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        }),
        first_timestamp: now.clone(),
        last_timestamp: now,
        count: Some(1),
        reporting_component: Some("kubelet".to_owned()),
        ..Event::default()
    };
    event.metadata.generate_name = Some(format!("{}.", pod.name_any()));
    event.metadata.namespace = pod.namespace();
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn crash_increments_restarts_and_sets_last_state() {
        let mut report = PodReport::new("10.99.0.1".into(), "10.98.1.1".into(), at(0));
        report.run(true, at(1));
        report.end(None, Some(9), at(2));
        report.back_off("discovery", 1, at(2));
        assert_eq!((report.restarts, report.ready), (1, false));
        assert_eq!(report.last_state.unwrap().terminated.unwrap().exit_code, 137);
        assert_eq!(report.state.waiting.unwrap().reason.as_deref(), Some("CrashLoopBackOff"));
    }

    #[test]
    fn transition_time_changes_only_with_status() {
        let mut report = PodReport::new(String::new(), String::new(), at(0));
        report.run(true, at(5));
        report.set_ready(true, at(9));
        let ready = report.conditions().into_iter().find(|condition| condition.type_ == "Ready").unwrap();
        assert_eq!(ready.last_transition_time.unwrap().0, at(5));
    }
}
