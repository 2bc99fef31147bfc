//! Registry behaviour that the lab's registry doesn't have: oversized manifests and bearer tokens.

use axum::Router;
use axum::extract::RawQuery;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use meshwright_e2e::mesh::VERSION;
use meshwright_e2e::registry::{ADDRESS, CHARTS, PASSWORD, USER};
use meshwright_e2e::{TestResult, run_without_cluster};
use serde_json::json;
use tokio::net::TcpListener;

use crate::oci::{CatalogDir, expect};

/// Authorization header with USER and PASSWORD.
const BASIC: &str = "Basic bGFiOnMzY3JldA==";

const TOKEN: &str = "for-base";

/// Serves these routes at the address of the lab's registry.
async fn serve(routes: Router) -> TestResult {
    let listener = TcpListener::bind(ADDRESS).await?;
    tokio::spawn(async { axum::serve(listener, routes).await });
    Ok(())
}

/// Prepends spaces to a JSON text.
fn padded(mebibytes: usize, text: &str) -> String {
    format!("{}{text}", " ".repeat(mebibytes << 20))
}

#[test]
fn limits_manifest_size() {
    run_without_cluster(async || {
        let index = json!({"schemaVersion": 2, "manifests": []}).to_string();
        let routes = Router::new().route("/v2/istio/charts/base/manifests/{tag}", get(async move || padded(4, &index)));
        serve(routes).await?;
        let site = CatalogDir::new()?;
        site.assert_pull_fails(&[], &["the manifest of", ADDRESS, "istio/charts/base", "is larger than 4 MiB"]).await?;
        site.assert_empty();
        Ok(())
    });
}

fn authorization(headers: &HeaderMap) -> &str {
    headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Issues a token for the requested repository if the password is correct.
async fn token(RawQuery(query): RawQuery, headers: HeaderMap) -> (StatusCode, String) {
    let query = query.unwrap_or_default();
    let valid = query.contains("scope=repository%3Aistio%2Fcharts%2Fbase%3Apull") && query.contains("service=lab");
    if valid && authorization(&headers) == BASIC {
        (StatusCode::OK, json!({"token": TOKEN}).to_string())
    } else {
        (StatusCode::UNAUTHORIZED, query)
    }
}

/// Requires the token; with it, responds that the manifest doesn't exist.
async fn manifest(headers: HeaderMap) -> Response {
    if authorization(&headers).strip_prefix("Bearer ") == Some(TOKEN) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let challenge = format!("Bearer realm=\"http://{ADDRESS}/token\",service=\"lab\"");
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
}

#[test]
fn authenticates_with_bearer_token() {
    run_without_cluster(async || {
        let routes =
            Router::new().route("/token", get(token)).route("/v2/istio/charts/base/manifests/{tag}", get(manifest));
        serve(routes).await?;
        let site = CatalogDir::new()?;
        let pull = ["pull", CHARTS, "--version", VERSION, "--plain-http", "--username", USER];
        for (password, text) in [(PASSWORD, "not found"), ("other", "denied access")] {
            let result = site.catalog(&pull, &[("MESHWRIGHT_REGISTRY_PASSWORD", password)]).await?;
            expect(&result.expect_err("the pull should fail"), &[text, "istio/charts/base"]);
        }
        Ok(())
    });
}
