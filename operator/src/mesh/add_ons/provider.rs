//! What the mesh has to know of Jaeger.

use meshwright_api::{AddOnName, MeshInstallationSpec};
use serde_json::{Value, json};

use super::wiring::has;
use crate::mesh::merge::{get, set};

/// The provider's name, as `Telemetry` resources and `meshConfig.defaultProviders` call it.
const PROVIDER: &str = "jaeger";
const PROVIDERS: &str = "meshConfig.extensionProviders";
const DEFAULT: &str = "meshConfig.defaultProviders.tracing";
/// OTLP over gRPC.
const PORT: u16 = 4317;

/// Makes the proxies send spans to the add-on jaeger, if it is there. A provider of that name, and another default, of the
/// user stay as they are: `values` must have all that is his.
pub fn provide_tracing(spec: &MeshInstallationSpec, values: &mut Value) {
    if !has(spec, AddOnName::Jaeger) {
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
