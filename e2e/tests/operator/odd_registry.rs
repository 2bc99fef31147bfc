//! What a registry that isn't the lab's can answer: more than anybody needs, or nothing without a token.

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

use crate::oci::{Site, expect};

/// USER and PASSWORD of the lab's registry, as HTTP has them.
const BASIC: &str = "Basic bGFiOnMzY3JldA==";

const TOKEN: &str = "for-base";

/// Serves it where the lab's registry would be.
async fn serve(routes: Router) -> TestResult {
    let listener = TcpListener::bind(ADDRESS).await?;
    tokio::spawn(async { axum::serve(listener, routes).await });
    Ok(())
}

/// A text of JSON with so many MiB of blanks before it.
fn padded(mebibytes: usize, text: &str) -> String {
    format!("{}{text}", " ".repeat(mebibytes << 20))
}

#[test]
fn a_manifest_is_not_read_beyond_what_any_is() {
    run_without_cluster(async || {
        let index = json!({"schemaVersion": 2, "manifests": []}).to_string();
        let routes = Router::new().route("/v2/istio/charts/base/manifests/{tag}", get(async move || padded(4, &index)));
        serve(routes).await?;
        let site = Site::new()?;
        site.refused(&[], &["the manifest of", ADDRESS, "istio/charts/base", "is larger than 4 MiB"]).await?;
        site.assert_empty();
        Ok(())
    });
}

fn said(headers: &HeaderMap) -> &str {
    headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Gives a token to whoever has the password, for the repository that he asks for.
async fn token(RawQuery(asked): RawQuery, headers: HeaderMap) -> (StatusCode, String) {
    let asked = asked.unwrap_or_default();
    let good = asked.contains("scope=repository%3Aistio%2Fcharts%2Fbase%3Apull") && asked.contains("service=lab");
    if good && said(&headers) == BASIC {
        (StatusCode::OK, json!({"token": TOKEN}).to_string())
    } else {
        (StatusCode::UNAUTHORIZED, asked)
    }
}

/// Nobody comes further without the token; who has it finds nothing.
async fn manifest(headers: HeaderMap) -> Response {
    if said(&headers).strip_prefix("Bearer ") == Some(TOKEN) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let challenge = format!("Bearer realm=\"http://{ADDRESS}/token\",service=\"lab\"");
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
}

#[test]
fn a_registry_that_gives_tokens_is_asked_with_one() {
    run_without_cluster(async || {
        let routes =
            Router::new().route("/token", get(token)).route("/v2/istio/charts/base/manifests/{tag}", get(manifest));
        serve(routes).await?;
        let site = Site::new()?;
        let pull = ["pull", CHARTS, "--version", VERSION, "--plain-http", "--username", USER];
        for (password, said) in [(PASSWORD, "there is no"), ("other", "refuses")] {
            let refusal = site.catalog(&pull, &[("MESHWRIGHT_REGISTRY_PASSWORD", password)]).await?;
            expect(&refusal.expect_err("nothing is there"), &[said, "istio/charts/base"]);
        }
        Ok(())
    });
}
