//! Writes status, in a minimal form if the API server refuses the whole one because of its size.

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Client, Resource as _};
use meshwright_api::{MeshInstallation, MeshInstallationStatus};
use serde_json::json;
use tracing::warn;

use crate::mesh::bounds::minimal;
use crate::runtime::requests::{api_error_message, is_too_large, within_deadline};

/// Field manager of status, separate from that of objects, so that neither apply removes the other's fields.
const STATUS_MANAGER: &str = "meshwright-status";

/// What was written of a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusForm {
    /// All of it, or nothing since the MeshInstallation was deleted or replaced by another of that name.
    Complete,
    /// Only what [`minimal`] keeps.
    Minimal,
}

/// Writes the status of the MeshInstallation with this name and UID.
pub async fn write_status(
    client: &Client,
    name: &str,
    uid: Option<&str>,
    status: &MeshInstallationStatus,
) -> Result<StatusForm, kube::Error> {
    match apply(client, name, uid, status).await {
        Ok(()) => Ok(StatusForm::Complete),
        Err(error) if is_too_large(&error) => {
            warn!(
                installation = name,
                error = api_error_message(&error),
                "the status is too large; writing conditions"
            );
            apply(client, name, uid, &minimal(status)).await.map(|()| StatusForm::Minimal)
        }
        Err(error) => Err(error),
    }
}

async fn apply(
    client: &Client,
    name: &str,
    uid: Option<&str>,
    status: &MeshInstallationStatus,
) -> Result<(), kube::Error> {
    // The response may have a spec that can't be parsed.
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::erase::<MeshInstallation>(&()));
    let body = json!({
        "apiVersion": MeshInstallation::api_version(&()),
        "kind": MeshInstallation::kind(&()),
        "metadata": {"name": name, "uid": uid},
        "status": status,
    });
    let params = PatchParams::apply(STATUS_MANAGER).force();
    match within_deadline(api.patch_status(name, &params, &Patch::Apply(&body))).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(answer)) if answer.is_not_found() || answer.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::body::to_bytes;
    use axum::http::{Request, Response, StatusCode};
    use kube::client::Body;
    use serde_json::Value;
    use tower::BoxError;

    use super::*;

    /// A client for a server that rejects bodies with components, and the bodies that it got.
    fn server(rejection: &'static str) -> (Client, Arc<Mutex<Vec<Value>>>) {
        let bodies: Arc<Mutex<Vec<Value>>> = Arc::default();
        let received = Arc::clone(&bodies);
        let service = tower::service_fn(move |request: Request<Body>| {
            let received = Arc::clone(&received);
            async move {
                let bytes = to_bytes(axum::body::Body::new(request.into_body()), usize::MAX).await?;
                let body: Value = serde_json::from_slice(&bytes)?;
                let is_rejected = body.pointer("/status/components").is_some();
                received.lock().unwrap().push(body);
                let object = json!({"apiVersion": "meshwright.dev/v1alpha1", "kind": "MeshInstallation",
                    "metadata": {"name": "mesh"}, "spec": {"version": 5}});
                let failure = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "message": rejection, "reason": "", "code": 500});
                let (code, answer) =
                    if is_rejected { (StatusCode::INTERNAL_SERVER_ERROR, failure) } else { (StatusCode::OK, object) };
                let answer = Body::from(answer.to_string().into_bytes());
                Ok::<_, BoxError>(Response::builder().status(code).body(answer)?)
            }
        });
        (Client::new(service, "default"), bodies)
    }

    fn status() -> MeshInstallationStatus {
        let component = json!({"name": "istiod", "ready": 1, "desired": 1});
        serde_json::from_value(json!({"observedGeneration": 3, "components": [component]})).unwrap()
    }

    #[tokio::test]
    async fn writes_minimal_form_when_status_is_too_large() {
        let (client, bodies) = server("etcdserver: request is too large");
        let form = write_status(&client, "mesh", Some("u"), &status()).await.unwrap();
        assert_eq!(form, StatusForm::Minimal);
        let bodies = bodies.lock().unwrap();
        assert_eq!((bodies.len(), &bodies[1]["status"]), (2, &json!({"observedGeneration": 3})));
    }

    #[tokio::test]
    async fn reports_other_errors() {
        let (client, bodies) = server("etcdserver: leader changed");
        assert!(write_status(&client, "mesh", Some("u"), &status()).await.is_err());
        assert_eq!(bodies.lock().unwrap().len(), 1);
    }
}
