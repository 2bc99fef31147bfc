//! I/O: what the API server says of node ports. Its range is learnt from a refusal, and which ports are held from a list
//! that is made only when ports are chosen, so that the Services of others cost neither memory nor a watch.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions};
use kube::{Client, ResourceExt as _};
use tracing::{info, warn};

use super::range::Discovery;
use super::refusal::PortRefusal;
use super::slot::{Held, Slot};
use super::wanted::HEALTH_CHECK;
use crate::mesh::object::{FIELD_MANAGER, INSTALLATION_LABEL};
use crate::runtime::requests::{pages, within_deadline};

/// A node port that no sensible range has: asking for it is answered with the range.
const IMPOSSIBLE: i32 = 1;
/// Begins the name of the Service that is refused.
const QUESTION: &str = "meshwright-node-port-range-";
/// The API server is asked again no sooner than this.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// Services listed at a time.
const PAGE: u32 = 200;

/// What the API server says of node ports. Cloning shares.
#[derive(Clone)]
pub struct NodePortServer {
    client: Client,
    namespace: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    range: Option<(Discovery, Instant)>,
    /// Installations whose pins the API server has refused.
    doubtful: BTreeSet<String>,
}

impl NodePortServer {
    /// Asks in the name of an operator that lives in `namespace`.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned(), state: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Single assignments: nothing is half-done after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The API server's range as far as it is known without asking.
    #[must_use]
    pub fn known_range(&self) -> Option<Discovery> {
        self.lock().range.as_ref().map(|(range, _)| range.clone())
    }

    /// The API server's range, asked for where it isn't known.
    pub async fn range(&self) -> Discovery {
        let known = self.lock().range.clone();
        match known {
            Some((Discovery::Told(range), _)) => Discovery::Told(range),
            Some((unknown, at)) if at.elapsed() < ASK_AGAIN => unknown,
            _ => self.ask().await,
        }
    }

    /// The API server's range, asked for again unless that was done a moment ago. True when the answer is a new one.
    pub async fn ask_again(&self) -> bool {
        let known = self.lock().range.clone();
        match known {
            Some((_, at)) if at.elapsed() < ASK_AGAIN => false,
            Some((range, _)) => self.ask().await != range,
            None => true,
        }
    }

    async fn ask(&self) -> Discovery {
        let range = self.discover().await;
        match &range {
            Discovery::Told(range) => info!(%range, "the API server's node ports"),
            Discovery::Unknown(why) => warn!(why, "the API server's range of node ports is not known"),
        }
        self.lock().range = Some((range.clone(), Instant::now()));
        range
    }

    /// Takes in what a refused write told: the range in force, and that the pins of an installation need another look.
    pub fn refused(&self, installation: &str, refusal: &PortRefusal) {
        let mut state = self.lock();
        if let PortRefusal::OutOfRange(range) = refusal {
            state.range = Some((Discovery::Told(*range), Instant::now()));
        }
        state.doubtful.insert(installation.to_owned());
    }

    /// Whether the API server has refused pins of this installation since they were found good.
    #[must_use]
    pub fn is_doubtful(&self, installation: &str) -> bool {
        self.lock().doubtful.contains(installation)
    }

    /// The pins of an installation were found good.
    pub fn settle(&self, installation: &str) {
        self.lock().doubtful.remove(installation);
    }

    /// Asks for a Service that can't be made. A dry run would not do: it doesn't look at the range.
    async fn discover(&self) -> Discovery {
        let api: Api<Service> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        match within_deadline(api.create(&params, &question())).await {
            Ok(made) => {
                self.take_back(&api, &made).await;
                Discovery::Unknown(format!("it takes even node port {IMPOSSIBLE}"))
            }
            Err(kube::Error::Api(status)) => match PortRefusal::read(&status.message) {
                Some(PortRefusal::OutOfRange(range)) => Discovery::Told(range),
                _ if status.is_forbidden() => {
                    Discovery::Unknown(format!("asking for it is refused: {}", status.message))
                }
                _ => Discovery::Unknown(format!("its answer says nothing of a range: {}", status.message)),
            },
            Err(error) => Discovery::Unknown(format!("it did not answer: {error}")),
        }
    }

    /// The question was meant to be refused.
    async fn take_back(&self, api: &Api<Service>, made: &Service) {
        let name = made.name_any();
        let params = DeleteParams {
            preconditions: made.uid().map(|uid| Preconditions { uid: Some(uid), resource_version: None }),
            ..DeleteParams::default()
        };
        if let Err(error) = within_deadline(api.delete(&name, &params)).await {
            warn!(name, namespace = self.namespace, error = %error, "a Service that was made by chance is still there");
        }
    }

    /// The node ports that the Services of the whole cluster hold. `installation` is whose mark makes them ours.
    pub async fn held(&self, installation: &str) -> Result<Vec<Held>, kube::Error> {
        let api: Api<Service> = Api::all(self.client.clone());
        let params = ListParams::default().fields("spec.type!=ClusterIP").limit(PAGE);
        let mut held = Vec::new();
        pages(&api, params, |service| held.extend(ports_of(&service, installation))).await?;
        Ok(held)
    }
}

fn question() -> Service {
    let port = ServicePort { port: 80, node_port: Some(IMPOSSIBLE), ..ServicePort::default() };
    Service {
        metadata: ObjectMeta { generate_name: Some(QUESTION.into()), ..ObjectMeta::default() },
        spec: Some(ServiceSpec { type_: Some("NodePort".into()), ports: Some(vec![port]), ..ServiceSpec::default() }),
        status: None,
    }
}

fn ports_of(service: &Service, installation: &str) -> Vec<Held> {
    let ours = service.labels().get(INSTALLATION_LABEL).is_some_and(|holder| holder == installation);
    let spec = service.spec.as_ref();
    let named = spec.and_then(|spec| spec.ports.as_ref()).into_iter().flatten().filter_map(|port| {
        let name = port.name.clone().unwrap_or_else(|| port.port.to_string());
        Some((name, port.node_port?))
    });
    let check = spec.and_then(|spec| spec.health_check_node_port).map(|port| (HEALTH_CHECK.to_owned(), port));
    let slot =
        |port_name| Slot { namespace: service.namespace().unwrap_or_default(), service: service.name_any(), port_name };
    named
        .chain(check)
        .filter_map(|(name, port)| {
            Some(Held { port: u16::try_from(port).ok().filter(|port| *port > 0)?, slot: slot(name), ours })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use serde_json::{Value, json};

    use super::*;
    use crate::runtime::client::Clients;

    /// Asks an API server that gives these answers, one after another; tells what was learnt, and the lines of requests.
    async fn asked(answers: &[(u16, Value)]) -> (Discovery, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answers = answers.to_vec();
        let server = std::thread::spawn(move || answers.iter().map(|answer| serve(&listener, answer)).collect());
        let clients = Clients::from_config(kube::Config::new(url.parse().unwrap())).unwrap();
        let range = NodePortServer::new(clients.requests, "meshwright-system").range().await;
        (range, server.join().unwrap())
    }

    /// Answers one request; tells its first line.
    fn serve(listener: &TcpListener, (code, body): &(u16, Value)) -> String {
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(&stream).lines().map(Result::unwrap);
        let first = lines.next().unwrap();
        lines.find(String::is_empty).unwrap();
        let body = body.to_string();
        let head = format!("HTTP/1.1 {code} X\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
        write!(&stream, "{head}content-type: application/json\r\n\r\n{body}").unwrap();
        first
    }

    fn refusal(code: u16, reason: &str, message: &str) -> (u16, Value) {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
            "reason": reason, "message": message});
        (code, status)
    }

    const ASKED: &str = "POST /api/v1/namespaces/meshwright-system/services?&fieldManager=meshwright HTTP/1.1";

    #[tokio::test]
    async fn the_range_is_read_from_the_refusal() {
        let words = "provided port is not in the valid range. The range of valid ports is 30400-30449";
        let (range, requests) = asked(&[refusal(422, "Invalid", words)]).await;
        assert_eq!(range, Discovery::Told("30400-30449".parse().unwrap()));
        assert_eq!(requests, [ASKED]);
    }

    #[tokio::test]
    async fn a_service_that_was_made_against_all_expectation_is_deleted_at_once() {
        let made = json!({"kind": "Service", "apiVersion": "v1",
            "metadata": {"namespace": "meshwright-system", "name": "q-1", "uid": "u"}});
        let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Success"});
        let (range, requests) = asked(&[(201, made), (200, gone)]).await;
        assert_eq!(range, Discovery::Unknown("it takes even node port 1".into()));
        let deleted = "DELETE /api/v1/namespaces/meshwright-system/services/q-1? HTTP/1.1";
        assert_eq!(requests, [ASKED, deleted]);
    }

    #[tokio::test]
    async fn a_missing_right_and_words_that_say_nothing_are_told() {
        let forbidden = "services is forbidden: User x cannot create resource";
        let (range, _) = asked(&[refusal(403, "Forbidden", forbidden)]).await;
        assert_eq!(range, Discovery::Unknown(format!("asking for it is refused: {forbidden}")));
        let (range, _) = asked(&[refusal(422, "Invalid", "not today")]).await;
        assert_eq!(range, Discovery::Unknown("its answer says nothing of a range: not today".into()));
    }

    #[test]
    fn all_node_ports_of_a_service_are_seen_with_whose_they_are() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"namespace": "default", "name": "web", "labels": {INSTALLATION_LABEL: "mesh"}},
            "spec": {
                "ports": [{"port": 80, "nodePort": 30080}, {"name": "b", "port": 81, "nodePort": 30081}, {"port": 82}],
                "healthCheckNodePort": 30082,
            },
        }))
        .unwrap();
        let seen = |installation: &str| -> Vec<(u16, String, bool)> {
            ports_of(&service, installation).into_iter().map(|h| (h.port, h.slot.to_string(), h.ours)).collect()
        };
        let held = |ours: bool| {
            let slots = ["80", "b", HEALTH_CHECK].map(|name| format!("default/web/{name}"));
            [30080, 30081, 30082].into_iter().zip(slots).map(|(port, slot)| (port, slot, ours)).collect::<Vec<_>>()
        };
        assert_eq!(seen("mesh"), held(true));
        assert_eq!(seen("other"), held(false));
        assert_eq!(ports_of(&Service::default(), "mesh"), []);
    }

    #[test]
    fn the_question_asks_for_a_node_port_that_no_range_has() {
        let asked = serde_json::to_value(question()).unwrap();
        assert_eq!(asked["spec"], json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 1}]}));
    }
}
