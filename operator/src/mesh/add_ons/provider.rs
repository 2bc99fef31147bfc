//! The mesh configuration with which proxies send spans to Jaeger.

use meshwright_api::{AddOnName, MeshInstallationSpec};
use serde_json::{Value, json};

use super::wiring::is_listed;
use crate::mesh::merge::{get, set};

/// The provider's name, as `Telemetry` resources and `meshConfig.defaultProviders` call it.
const PROVIDER: &str = "jaeger";
const PROVIDERS: &str = "meshConfig.extensionProviders";
const DEFAULT: &str = "meshConfig.defaultProviders.tracing";
/// OTLP over gRPC.
const PORT: u16 = 4317;

/// Adds the add-on jaeger, if it is listed, as an extension provider and as the default for tracing. `values` must
/// already contain the user's values: a provider of that name and another default of the user take precedence.
pub fn provide_tracing(spec: &MeshInstallationSpec, values: &mut Value) {
    if !is_listed(spec, AddOnName::Jaeger) {
        return;
    }
    let mut providers = get(values, PROVIDERS).and_then(Value::as_array).cloned().unwrap_or_default();
    if !providers.iter().any(|provider| provider.get("name").and_then(Value::as_str) == Some(PROVIDER)) {
        let domain = get(values, "global.proxy.clusterDomain").and_then(Value::as_str).unwrap_or("cluster.local");
        let service = format!("jaeger-collector.{}.svc.{domain}", spec.namespace);
        providers.push(json!({"name": PROVIDER, "opentelemetry": {"service": service, "port": PORT}}));
        set(values, PROVIDERS, providers);
    }
    if get(values, DEFAULT).is_none() {
        set(values, DEFAULT, json!([PROVIDER]));
    }
}
