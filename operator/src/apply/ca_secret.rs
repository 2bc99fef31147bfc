//! Reads the certificates of a CA that the user provides to istiod. Its private key is never deserialized.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::GetParams;
use kube::core::Request;
use kube::{Client, Resource as _};
use serde::Deserialize;

use super::error::{ErrorClass, absent};
use crate::runtime::requests::within_deadline;

/// The Secret from which istiod reads such a CA.
const SECRET: &str = "cacerts";

/// The certificates in the Secret, in Istio's format or that of a TLS Secret.
#[derive(Default, Deserialize)]
struct CaSecret {
    #[serde(default)]
    data: CaSecretData,
}

#[derive(Default, Deserialize)]
struct CaSecretData {
    #[serde(rename = "ca-cert.pem")]
    certificate: Option<ByteString>,
    #[serde(rename = "cert-chain.pem")]
    chain: Option<ByteString>,
    #[serde(rename = "tls.crt")]
    tls: Option<ByteString>,
}

/// The PEM texts of the certificates. Empty without the Secret, or without the permission to read it; `None` after
/// another error.
pub(super) async fn provided_certificates(client: &Client, namespace: &str) -> Option<Vec<String>> {
    let request = Request::new(Secret::url_path(&(), Some(namespace))).get(SECRET, &GetParams::default()).ok()?;
    match within_deadline(client.request::<CaSecret>(request)).await {
        Ok(CaSecret { data: CaSecretData { certificate, chain, tls } }) => {
            let texts = [certificate, chain, tls].into_iter().flatten();
            Some(texts.map(|text| String::from_utf8_lossy(&text.0).into_owned()).collect())
        }
        Err(error) if absent(&error) || ErrorClass::of(&error) == ErrorClass::Forbidden => Some(Vec::new()),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{Request, Response, StatusCode};
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower::BoxError;

    use super::*;

    /// The certificates that a server with this response has.
    async fn certificates(status: StatusCode, answer: Value) -> Option<Vec<String>> {
        let server = tower::service_fn(move |request: Request<Body>| {
            let answer = answer.to_string().into_bytes();
            async move {
                assert_eq!(request.uri().path(), "/api/v1/namespaces/istio-system/secrets/cacerts");
                let mut response = Response::new(Body::from(answer));
                *response.status_mut() = status;
                Ok::<_, BoxError>(response)
            }
        });
        provided_certificates(&Client::new(server, "default"), "istio-system").await
    }

    fn failure(code: u16, reason: &str) -> Value {
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason})
    }

    #[tokio::test]
    async fn reads_certificates_and_no_key() {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cacerts"},
            "data": {"ca-cert.pem": "Q0E=", "cert-chain.pem": "Q0hBSU4=", "root-cert.pem": "Uk9PVA==", "ca-key.pem": "S0VZ"},
        });
        assert_eq!(certificates(StatusCode::OK, secret).await.unwrap(), ["CA", "CHAIN"]);
        let tls = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {}, "data": {"tls.crt": "VExT", "tls.key": "S0VZ"}});
        assert_eq!(certificates(StatusCode::OK, tls).await.unwrap(), ["TLS"]);
    }

    #[tokio::test]
    async fn absence_and_denial_mean_no_certificates() {
        for (code, reason) in [(StatusCode::NOT_FOUND, "NotFound"), (StatusCode::FORBIDDEN, "Forbidden")] {
            assert_eq!(certificates(code, failure(code.as_u16(), reason)).await, Some(Vec::new()));
        }
        let code = StatusCode::INTERNAL_SERVER_ERROR;
        assert_eq!(certificates(code, failure(code.as_u16(), "InternalError")).await, None);
    }
}
