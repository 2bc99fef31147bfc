//! I/O: discovers the API server's node port range from the rejection of an invalid Service, and lists the node ports
//! in use. Services are only listed when ports are assigned, which avoids a watch of all Services in the cluster.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions};
use kube::{Client, ResourceExt as _};
use tracing::{info, warn};

use super::port_key::{PortKey, UsedPort};
use super::port_rejection::PortRejection;
use super::port_request::HEALTH_CHECK;
use super::range::{PortRange, RangeDiscovery};
use crate::mesh::object::{FIELD_MANAGER, INSTALLATION_LABEL};
use crate::runtime::requests::{pages, within_deadline};

/// Node ports that are outside almost any range. The API server's error message contains the range.
const INVALID_NODE_PORTS: [u16; 2] = [1, u16::MAX];
/// Name prefix of the Service that the API server rejects.
const PROBE_NAME_PREFIX: &str = "meshwright-node-port-range-";
/// Minimum interval between discoveries.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(10);
/// Services per page. In larger pages, usual Services would exceed the limits once there are a few large ones.
const PAGE: u32 = 50;

/// Node port range and used node ports of the API server. Clones share the state.
#[derive(Clone)]
pub struct NodePortServer {
    client: Client,
    namespace: String,
    state: Arc<Mutex<ServerState>>,
}

#[derive(Default)]
struct ServerState {
    range: Option<(RangeDiscovery, Instant)>,
    /// Installations with pins that the API server has rejected.
    rejected: BTreeSet<String>,
}

impl NodePortServer {
    /// `namespace` is the operator's, in which the Service for the discovery is created.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned(), state: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, ServerState> {
        // The state is changed by single assignments, so it is consistent after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the result of the last discovery.
    #[must_use]
    pub fn known_range(&self) -> Option<RangeDiscovery> {
        self.lock().range.as_ref().map(|(range, _)| range.clone())
    }

    /// Returns the API server's range and discovers it if necessary.
    pub async fn range(&self) -> RangeDiscovery {
        let known = self.lock().range.clone();
        match known {
            Some((RangeDiscovery::Known(range), _)) => RangeDiscovery::Known(range),
            Some((unknown, at)) if at.elapsed() < DISCOVERY_INTERVAL => unknown,
            _ => self.update_range().await,
        }
    }

    /// Discovers the range again, unless the last discovery is recent. Returns whether the range has changed.
    pub async fn refresh_range(&self) -> bool {
        let known = self.lock().range.clone();
        match known {
            Some((_, at)) if at.elapsed() < DISCOVERY_INTERVAL => false,
            Some((range, _)) => self.update_range().await != range,
            None => true,
        }
    }

    async fn update_range(&self) -> RangeDiscovery {
        let range = self.discover().await;
        match &range {
            RangeDiscovery::Known(range) => info!(%range, "discovered the API server's node port range"),
            RangeDiscovery::Unknown(reason) => warn!(reason, "discovering the API server's node port range failed"),
        }
        self.lock().range = Some((range.clone(), Instant::now()));
        range
    }

    /// Records a rejected write: updates the range and marks the installation's pins for revalidation.
    pub fn record_rejection(&self, installation: &str, rejection: &PortRejection) {
        let mut state = self.lock();
        if let PortRejection::OutOfRange(range) = rejection {
            state.range = Some((RangeDiscovery::Known(*range), Instant::now()));
        }
        state.rejected.insert(installation.to_owned());
    }

    /// Returns whether the API server has rejected pins of this installation since their last validation.
    #[must_use]
    pub fn needs_revalidation(&self, installation: &str) -> bool {
        self.lock().rejected.contains(installation)
    }

    /// Marks the pins of an installation as valid.
    pub fn mark_valid(&self, installation: &str) {
        self.lock().rejected.remove(installation);
    }

    /// Tries to create Services with invalid node ports. A range that contains these ports contains all ports.
    async fn discover(&self) -> RangeDiscovery {
        let [first, last] = INVALID_NODE_PORTS;
        for port in [first, last] {
            if let Some(discovered) = self.probe(port).await {
                return discovered;
            }
        }
        PortRange::new(first, last)
            .map_or_else(|| RangeDiscovery::Unknown("no port is invalid".to_owned()), RangeDiscovery::Known)
    }

    /// Tries to create a Service with this node port; `None` if the port is in the range. A dry run doesn't work,
    /// because it doesn't check the range.
    async fn probe(&self, node_port: u16) -> Option<RangeDiscovery> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        let service = probe_service(node_port);
        let status = match within_deadline(api.create(&params, &service)).await {
            Ok(created) => {
                self.delete_probe(&api, &created).await;
                return None;
            }
            // A request that the API server has executed was repeated, since its response was an error or was lost.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                self.delete_probe(&api, &service).await;
                return None;
            }
            Err(kube::Error::Api(status)) => status,
            Err(error) => return Some(RangeDiscovery::Unknown(format!("the API server did not respond: {error}"))),
        };
        match PortRejection::parse(&status.message) {
            Some(PortRejection::OutOfRange(range)) => Some(RangeDiscovery::Known(range)),
            Some(PortRejection::InUse) => None,
            _ if status.is_forbidden() => {
                Some(RangeDiscovery::Unknown(format!("the discovery is forbidden: {}", status.message)))
            }
            _ => Some(RangeDiscovery::Unknown(format!("the API server's error contains no range: {}", status.message))),
        }
    }

    /// Deletes a probe Service that the API server has accepted.
    async fn delete_probe(&self, api: &Api<Service>, created: &Service) {
        let name = created.name_any();
        let params = DeleteParams {
            preconditions: created.uid().map(|uid| Preconditions { uid: Some(uid), resource_version: None }),
            ..DeleteParams::default()
        };
        if let Err(error) = within_deadline(api.delete(&name, &params)).await {
            warn!(name, namespace = self.namespace, error = %error, "deleting the probe Service failed");
        }
    }

    /// Lists the node ports of all Services in the cluster. Those labelled with `installation` are marked as own. Fails
    /// if the ports of a Service can't be read, since they would count as free.
    pub async fn used_ports(&self, installation: &str) -> Result<Vec<UsedPort>, kube::Error> {
        let api: Api<Service> = Api::all(self.client.clone());
        let params = ListParams::default().fields("spec.type!=ClusterIP").limit(PAGE);
        let (mut used, mut unreadable) = (Vec::new(), None);
        let listed = pages(&api, params, |service| {
            // The API server stores no Service without a spec, so this one exceeds the limits of responses.
            if service.spec.is_none() {
                let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
                let message = format!("Service {namespace}/{name} is too large to read; make it smaller or delete it");
                unreadable = Some(message);
            }
            used.extend(ports_of(&service, installation));
        });
        listed.await?;
        unreadable.map_or(Ok(used), |message| Err(kube::Error::Service(message.into())))
    }
}

fn probe_service(node_port: u16) -> Service {
    let port = ServicePort { port: 80, node_port: Some(i32::from(node_port)), ..ServicePort::default() };
    // With a name from the API server, a repeated request would create a second Service.
    let name = format!("{PROBE_NAME_PREFIX}{:08x}", fastrand::u32(..));
    Service {
        metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() },
        spec: Some(ServiceSpec { type_: Some("NodePort".into()), ports: Some(vec![port]), ..ServiceSpec::default() }),
        status: None,
    }
}

fn ports_of(service: &Service, installation: &str) -> Vec<UsedPort> {
    let own = service.labels().get(INSTALLATION_LABEL).is_some_and(|value| value == installation);
    let spec = service.spec.as_ref();
    let named = spec.and_then(|spec| spec.ports.as_ref()).into_iter().flatten().filter_map(|port| {
        let name = port.name.clone().unwrap_or_else(|| port.port.to_string());
        Some((name, port.node_port?))
    });
    let check = spec.and_then(|spec| spec.health_check_node_port).map(|port| (HEALTH_CHECK.to_owned(), port));
    let key = |port_name| PortKey {
        namespace: service.namespace().unwrap_or_default(),
        service: service.name_any(),
        port_name,
    };
    named
        .chain(check)
        .filter_map(|(name, port)| {
            Some(UsedPort { port: u16::try_from(port).ok().filter(|port| *port > 0)?, key: key(name), own })
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

    /// Runs the discovery against a server with these responses. Returns the result and the request lines.
    async fn discover(responses: &[(u16, Value)]) -> (RangeDiscovery, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let responses = responses.to_vec();
        let server = std::thread::spawn(move || responses.iter().map(|response| serve(&listener, response)).collect());
        let clients = Clients::from_config(kube::Config::new(url.parse().unwrap())).unwrap();
        let range = NodePortServer::new(clients.requests, "meshwright-system").range().await;
        (range, server.join().unwrap())
    }

    /// Serves one request and returns its request line.
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

    fn failure(code: u16, reason: &str, message: &str) -> (u16, Value) {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
            "reason": reason, "message": message});
        (code, status)
    }

    const CREATE_REQUEST: &str = "POST /api/v1/namespaces/meshwright-system/services?&fieldManager=meshwright HTTP/1.1";

    #[tokio::test]
    async fn discovers_range_from_rejection() {
        let message = "provided port is not in the valid range. The range of valid ports is 30400-30449";
        let (range, requests) = discover(&[failure(422, "Invalid", message)]).await;
        assert_eq!(range, RangeDiscovery::Known("30400-30449".parse().unwrap()));
        assert_eq!(requests, [CREATE_REQUEST]);
    }

    #[tokio::test]
    async fn discovers_wide_range_and_deletes_probe_services() {
        let created = json!({"kind": "Service", "apiVersion": "v1",
            "metadata": {"namespace": "meshwright-system", "name": "q-1", "uid": "u"}});
        let accepted = [(201, created), (200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))];
        let deleted = "DELETE /api/v1/namespaces/meshwright-system/services/q-1? HTTP/1.1";
        let (range, requests) = discover(&[accepted.clone(), accepted.clone()].concat()).await;
        assert_eq!(range, RangeDiscovery::Known("1-65535".parse().unwrap()));
        assert_eq!(requests, [CREATE_REQUEST, deleted, CREATE_REQUEST, deleted]);

        let message = "provided port is not in the valid range. The range of valid ports is 1-32767";
        let [post, delete] = accepted;
        let (range, requests) = discover(&[post, delete, failure(422, "Invalid", message)]).await;
        assert_eq!(range, RangeDiscovery::Known("1-32767".parse().unwrap()));
        assert_eq!(requests, [CREATE_REQUEST, deleted, CREATE_REQUEST]);
    }

    #[tokio::test]
    async fn repeated_create_deletes_probe_service() {
        let exists = failure(409, "AlreadyExists", "services \"q-1\" already exists");
        let deleted = (200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}));
        let message = "provided port is not in the valid range. The range of valid ports is 1-32767";
        let (range, requests) = discover(&[exists, deleted, failure(422, "Invalid", message)]).await;
        assert_eq!(range, RangeDiscovery::Known("1-32767".parse().unwrap()));
        let path = "DELETE /api/v1/namespaces/meshwright-system/services/meshwright-node-port-range-";
        assert!(requests[1].starts_with(path), "{requests:?}");
    }

    #[tokio::test]
    async fn used_port_is_in_range() {
        let used = || failure(422, "Invalid", "provided port is already allocated");
        let (range, requests) = discover(&[used(), used()]).await;
        assert_eq!(range, RangeDiscovery::Known("1-65535".parse().unwrap()));
        assert_eq!(requests, [CREATE_REQUEST, CREATE_REQUEST]);
    }

    #[tokio::test]
    async fn reports_missing_permission_and_unknown_errors() {
        let forbidden = "services is forbidden: User x cannot create resource";
        let (range, _) = discover(&[failure(403, "Forbidden", forbidden)]).await;
        assert_eq!(range, RangeDiscovery::Unknown(format!("the discovery is forbidden: {forbidden}")));
        let (range, _) = discover(&[failure(422, "Invalid", "not today")]).await;
        assert_eq!(range, RangeDiscovery::Unknown("the API server's error contains no range: not today".into()));
    }

    #[tokio::test]
    async fn unreadable_service_fails_the_list() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let items = json!([
            {"metadata": {"namespace": "tenant", "name": "large"}},
            {"metadata": {"namespace": "default", "name": "web"}, "spec": {"ports": [{"port": 80, "nodePort": 30080}]}},
        ]);
        let list = json!({"kind": "ServiceList", "apiVersion": "v1", "metadata": {}, "items": items});
        let server = std::thread::spawn(move || serve(&listener, &(200, list)));
        let clients = Clients::from_config(kube::Config::new(url.parse().unwrap())).unwrap();
        let listed = NodePortServer::new(clients.requests, "meshwright-system").used_ports("mesh").await;
        let message = listed.unwrap_err().to_string();
        assert!(message.contains("Service tenant/large is too large"), "{message}");
        assert!(server.join().unwrap().contains("limit=50"));
    }

    #[test]
    fn lists_all_node_ports_of_services() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"namespace": "default", "name": "web", "labels": {INSTALLATION_LABEL: "mesh"}},
            "spec": {
                "ports": [{"port": 80, "nodePort": 30080}, {"name": "b", "port": 81, "nodePort": 30081}, {"port": 82}],
                "healthCheckNodePort": 30082,
            },
        }))
        .unwrap();
        let listed = |installation: &str| -> Vec<(u16, String, bool)> {
            ports_of(&service, installation)
                .into_iter()
                .map(|used| (used.port, used.key.to_string(), used.own))
                .collect()
        };
        let used = |own: bool| {
            let keys = ["80", "b", HEALTH_CHECK].map(|name| format!("default/web/{name}"));
            [30080, 30081, 30082].into_iter().zip(keys).map(|(port, key)| (port, key, own)).collect::<Vec<_>>()
        };
        assert_eq!(listed("mesh"), used(true));
        assert_eq!(listed("other"), used(false));
        assert_eq!(ports_of(&Service::default(), "mesh"), []);
    }

    #[test]
    fn probe_service_has_invalid_node_port() {
        let service = serde_json::to_value(probe_service(1)).unwrap();
        assert_eq!(service["spec"], json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 1}]}));
    }
}
