//! Compares a rendered mesh configuration with the one that istiod has loaded, which it prints as JSON.

use serde_json::{Map, Value};

use super::jsonpb::integer;
use super::schema::{SCHEMA, json_name};
use super::{ConfigDocument, ReleaseTypes, duration};

const MESH: &str = "istio.mesh.v1alpha1.MeshConfig";
const PROVIDER: &str = "istio.mesh.v1alpha1.MeshConfig.ExtensionProvider";

/// Fields that exclude each other, in the order in which istiod reads them: a message keeps the last one. The default of
/// a chart may be rendered beside the field that the spec sets.
const EXCLUSIVE_FIELDS: [(&str, &[&str]); 9] = [
    ("istio.mesh.v1alpha1.MeshConfig.CertificateData", &["pem", "spiffeBundleUrl"]),
    (
        PROVIDER,
        &[
            "envoyExtAuthzHttp",
            "envoyExtAuthzGrpc",
            "zipkin",
            "lightstep",
            "datadog",
            "stackdriver",
            "opencensus",
            "skywalking",
            "opentelemetry",
            "prometheus",
            "envoyFileAccessLog",
            "envoyHttpAls",
            "envoyTcpAls",
            "envoyOtelAls",
            "sds",
        ],
    ),
    ("istio.mesh.v1alpha1.MeshConfig.ExtensionProvider.EnvoyFileAccessLogProvider.LogFormat", &["text", "labels"]),
    ("istio.mesh.v1alpha1.MeshConfig.ExtensionProvider.HttpHeader", &["value", "envName"]),
    ("istio.mesh.v1alpha1.PrivateKeyProvider", &["cryptomb", "qat"]),
    ("istio.mesh.v1alpha1.ProxyConfig", &["serviceCluster", "tracingServiceName"]),
    ("istio.mesh.v1alpha1.Tracing", &["zipkin", "lightstep", "datadog", "stackdriver", "openCensusAgent"]),
    ("istio.mesh.v1alpha1.Tracing.CustomTag", &["literal", "environment", "header"]),
    ("istio.networking.v1alpha3.ReadinessProbe", &["httpGet", "tcpSocket", "exec", "grpc"]),
];

/// The path of a setting that istiod has not loaded, if any. istiod adds defaults to what is rendered, and prints neither
/// zero values nor fields that its release doesn't know.
#[must_use]
pub fn unloaded_mesh_setting(types: ReleaseTypes, rendered: &Value, loaded: &Value) -> Option<String> {
    let root = ReleaseTypes::root(ConfigDocument::Mesh)?;
    difference(types, root, rendered, Some(loaded))
}

/// The path of the first rendered value that differs. A null leaves a field unset.
fn difference(types: ReleaseTypes, type_name: &str, rendered: &Value, loaded: Option<&Value>) -> Option<String> {
    if rendered.is_null() {
        None
    } else if let Some(element) = type_name.strip_prefix("[]") {
        of_list(types, element, rendered, loaded)
    } else if let Some(element) = type_name.strip_prefix("{}") {
        let entry = |(key, value): (&String, &Value)| {
            let rest = difference(types, element, value, loaded.and_then(|loaded| loaded.get(key)))?;
            Some(join(key, &rest))
        };
        rendered.as_object().into_iter().flatten().find_map(entry)
    } else if types.is_message(type_name) {
        of_message(types, type_name, rendered.as_object()?, loaded)
    } else {
        let equal = if types.enum_names(type_name).is_some() {
            is_same_enum_value(type_name, rendered, loaded)
        } else {
            is_same_scalar(type_name, rendered, loaded)
        };
        (!equal).then(String::new)
    }
}

fn of_message(
    types: ReleaseTypes,
    message: &str,
    rendered: &Map<String, Value>,
    loaded: Option<&Value>,
) -> Option<String> {
    rendered.iter().find_map(|(key, value)| {
        let (json, type_name) = types.field(message, key)?;
        // istiod merges these two under their JSON names only.
        let is_ignored = message == MESH && matches!(key.as_str(), "default_config" | "default_providers");
        // With both spellings the decoder takes the JSON name's value.
        let is_overridden = json != key && rendered.contains_key(json);
        if is_ignored || is_overridden || is_replaced(message, json, rendered) {
            return None;
        }
        let found = loaded.and_then(|loaded| loaded.get(json));
        if (message, json) == (MESH, "trustDomainAliases") {
            // istiod sorts them.
            let aliases = |list: Option<&Value>| list.and_then(Value::as_array).cloned().unwrap_or_default();
            let loaded = aliases(found);
            let is_unloaded = |alias: &Value| !alias.is_null() && !loaded.contains(alias);
            return aliases(Some(value)).iter().any(is_unloaded).then(|| json.to_owned());
        }
        difference(types, type_name, value, found).map(|rest| join(json, &rest))
    })
}

/// Whether the message keeps another of the rendered fields that exclude each other: the last one.
fn is_replaced(message: &str, name: &str, rendered: &Map<String, Value>) -> bool {
    let is_rendered = |other: &str| rendered.iter().any(|(key, value)| json_name(key) == other && !value.is_null());
    EXCLUSIVE_FIELDS
        .iter()
        .filter(|(of, group)| *of == message && group.contains(&name))
        .flat_map(|(_, group)| group.iter().copied().skip_while(move |other| *other != name).skip(1))
        .any(is_rendered)
}

fn of_list(types: ReleaseTypes, element: &str, rendered: &Value, loaded: Option<&Value>) -> Option<String> {
    let rendered = rendered.as_array()?;
    let loaded = loaded.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if element == PROVIDER {
        return of_providers(types, rendered, loaded);
    }
    if rendered.len() != loaded.len() {
        return Some(String::new());
    }
    rendered.iter().zip(loaded).enumerate().find_map(|(index, (rendered, loaded))| {
        difference(types, element, rendered, Some(loaded)).map(|rest| join(&format!("[{index}]"), &rest))
    })
}

/// istiod merges providers by name: of two with the same name, it uses the later one.
fn of_providers(types: ReleaseTypes, rendered: &[Value], loaded: &[Value]) -> Option<String> {
    let name = |provider: &Value| provider.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    rendered.iter().enumerate().find_map(|(index, provider)| {
        let wanted = name(provider);
        if provider.is_null() || rendered.iter().skip(index + 1).any(|later| name(later) == wanted) {
            return None;
        }
        let found = loaded.iter().find(|loaded| name(loaded) == wanted);
        let at = format!("[{index}]");
        match found {
            Some(found) => difference(types, PROVIDER, provider, Some(found)).map(|rest| join(&at, &rest)),
            None => Some(at),
        }
    })
}

fn join(part: &str, rest: &str) -> String {
    let separator = if rest.is_empty() || rest.starts_with('[') { "" } else { "." };
    format!("{part}{separator}{rest}")
}

/// Whether two values of an enum are equal, each of which is a name or a number.
fn is_same_enum_value(type_name: &str, rendered: &Value, loaded: Option<&Value>) -> bool {
    let number = |value: &Value| match value {
        Value::String(name) => SCHEMA.enums.get(type_name)?.get(name).copied().map(i128::from),
        number => integer(number),
    };
    let (wanted, found) = (number(rendered), loaded.map_or(Some(0), number));
    loaded == Some(rendered) || (wanted.is_some() && wanted == found)
}

/// Whether two scalars are equal. A value that is absent is zero.
fn is_same_scalar(type_name: &str, rendered: &Value, loaded: Option<&Value>) -> bool {
    match type_name {
        "bool" | "google.protobuf.BoolValue" => {
            rendered.as_bool() == Some(loaded.and_then(Value::as_bool).unwrap_or_default())
        }
        "string" | "google.protobuf.StringValue" => {
            rendered.as_str() == Some(loaded.and_then(Value::as_str).unwrap_or_default())
        }
        "google.protobuf.Duration" => nanoseconds(Some(rendered)) == nanoseconds(loaded),
        "float" | "double" | "google.protobuf.FloatValue" | "google.protobuf.DoubleValue" => {
            float(Some(rendered)) == float(loaded)
        }
        "google.protobuf.Struct" => loaded.is_some_and(|loaded| different_value(rendered, loaded).is_none()),
        name if name.contains("int") || name.contains("Int") => integer(rendered) == loaded.map_or(Some(0), integer),
        _ => true,
    }
}

fn nanoseconds(value: Option<&Value>) -> Option<i64> {
    value.map_or(Some(0), |value| duration::parse(value.as_str()?))
}

/// The bits of a number, also from between quotes.
fn float(value: Option<&Value>) -> Option<u64> {
    let number = match value {
        None => Some(0.0),
        Some(Value::String(text)) if text == "null" => Some(0.0),
        Some(Value::String(text)) => text.trim_matches(' ').parse().ok(),
        Some(number) => number.as_f64(),
    };
    number.map(f64::to_bits)
}

/// The path of the first difference between two JSON values, as `global.proxy.image`. Go reads all numbers as floats.
#[must_use]
pub fn different_value(rendered: &Value, loaded: &Value) -> Option<String> {
    match (rendered, loaded) {
        (Value::Object(rendered), Value::Object(loaded)) => {
            let changed = rendered.iter().find_map(|(key, value)| match loaded.get(key) {
                Some(found) => different_value(value, found).map(|rest| join(key, &rest)),
                None => Some(key.clone()),
            });
            changed.or_else(|| loaded.keys().find(|key| !rendered.contains_key(*key)).cloned())
        }
        (Value::Array(rendered), Value::Array(loaded)) if rendered.len() == loaded.len() => {
            rendered.iter().zip(loaded).enumerate().find_map(|(index, (rendered, loaded))| {
                different_value(rendered, loaded).map(|rest| join(&format!("[{index}]"), &rest))
            })
        }
        (Value::Number(rendered), Value::Number(loaded)) => {
            (rendered.as_f64().map(f64::to_bits) != loaded.as_f64().map(f64::to_bits)).then(String::new)
        }
        (rendered, loaded) => (rendered != loaded).then(String::new),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What istiod prints of the default mesh configuration with a few settings.
    fn loaded() -> Value {
        json!({
            "proxyListenPort": 15001, "proxyInboundListenPort": 15006, "connectTimeout": "10s",
            "protocolDetectionTimeout": "0s", "ingressClass": "istio", "ingressService": "istio-ingressgateway",
            "ingressControllerMode": "STRICT", "enableTracing": true, "accessLogFile": "/dev/stdout",
            "accessLogEncoding": "JSON",
            "defaultConfig": {
                "configPath": "./etc/istio/proxy", "binaryPath": "/usr/local/bin/envoy", "serviceCluster": "istio-proxy",
                "drainDuration": "45s", "discoveryAddress": "istiod.istio-system.svc:15012", "proxyAdminPort": 15000,
                "controlPlaneAuthPolicy": "MUTUAL_TLS", "statNameLength": 189, "statusPort": 15020,
                "concurrency": 2, "proxyMetadata": {"A": "1"}, "terminationDrainDuration": "5s",
                "tracing": {"sampling": 12.5, "zipkin": {"address": "zipkin.tracing:9411"}},
            },
            "outboundTrafficPolicy": {"mode": "ALLOW_ANY"}, "rootNamespace": "istio-system",
            "dnsRefreshRate": "90s", "trustDomain": "cluster.local", "trustDomainAliases": ["a", "b"],
            "enablePrometheusMerge": true, "enableAutoMtls": false,
            "extensionProviders": [
                {"name": "prometheus", "prometheus": {}},
                {"name": "envoy", "envoyFileAccessLog": {"path": "/dev/stdout"}},
                {"name": "otel", "opentelemetry": {"service": "otel.tracing.svc", "port": 4317}},
            ],
            "defaultProviders": {"metrics": ["prometheus"]},
        })
    }

    fn unloaded(rendered: &Value) -> Option<String> {
        unloaded_mesh_setting(ReleaseTypes::EXPORTED, rendered, &loaded())
    }

    #[test]
    fn accepts_istiods_spelling_of_rendered_mesh() {
        let rendered = json!({
            "accessLogFile": "/dev/stdout", "access_log_encoding": 1, "connectTimeout": "0h10s", "dnsRefreshRate": "1m30s",
            "defaultConfig": {
                "concurrency": "2", "discoveryAddress": "istiod.istio-system.svc:15012", "proxyMetadata": {"A": "1"},
                "tracing": {"sampling": 12.5, "zipkin": {"address": "zipkin.tracing:9411"}, "lightstep": null},
                "statusPort": 15020.0, "gatewayTopology": {"numTrustedProxies": 0},
            },
            "enableAutoMtls": false, "enableEnvoyAccessLogService": false, "trustDomainAliases": ["b", "a"],
            "outboundTrafficPolicy": {}, "protocolDetectionTimeout": "0s", "unknown": {"a": 1}, "accessLogFormat": "",
            "extensionProviders": [{"name": "otel", "opentelemetry": {"service": "otel.tracing.svc", "port": "4317"}}],
            "defaultProviders": {"metrics": ["prometheus"]}, "serviceSettings": [],
        });
        assert_eq!(unloaded(&rendered), None);
        assert_eq!(unloaded(&Value::Null), None);
        assert_eq!(unloaded(&loaded()), None, "its own output");
    }

    #[test]
    fn finds_settings_that_are_not_loaded() {
        for (rendered, path) in [
            (json!({"accessLogFile": "/dev/stderr"}), "accessLogFile"),
            (json!({"accessLogFormat": "%PROTOCOL%"}), "accessLogFormat"),
            (json!({"access_log_encoding": "TEXT"}), "accessLogEncoding"),
            (json!({"dnsRefreshRate": "91s"}), "dnsRefreshRate"),
            (json!({"enableAutoMtls": true}), "enableAutoMtls"),
            (
                json!({"defaultConfig": {"tracing": {"zipkin": {"address": "new:9411"}}}}),
                "defaultConfig.tracing.zipkin.address",
            ),
            (json!({"defaultConfig": {"tracing": {"sampling": 100}}}), "defaultConfig.tracing.sampling"),
            (json!({"defaultConfig": {"proxyMetadata": {"B": "1"}}}), "defaultConfig.proxyMetadata.B"),
            (
                json!({"defaultConfig": {"gatewayTopology": {"numTrustedProxies": 2}}}),
                "defaultConfig.gatewayTopology.numTrustedProxies",
            ),
            (json!({"trustDomainAliases": ["c"]}), "trustDomainAliases"),
            (json!({"defaultProviders": {"metrics": []}}), "defaultProviders.metrics"),
            (json!({"extensionProviders": [{"name": "new", "prometheus": {}}]}), "extensionProviders[0]"),
            (
                json!({"extensionProviders": [{"name": "otel", "opentelemetry": {"service": "otel.tracing.svc", "port": 1}}]}),
                "extensionProviders[0].opentelemetry.port",
            ),
        ] {
            assert_eq!(unloaded(&rendered).as_deref(), Some(path), "{rendered}");
        }
    }

    #[test]
    fn last_of_exclusive_fields_counts() {
        let tracing = |tracing: Value| json!({"defaultConfig": {"tracing": tracing}});
        let (zipkin, datadog) = (json!({"address": "zipkin.tracing:9411"}), json!({"address": "agent:8126"}));
        let both = tracing(json!({"zipkin": zipkin, "datadog": datadog}));
        assert_eq!(unloaded(&both).as_deref(), Some("defaultConfig.tracing.datadog.address"));
        let mut reloaded = loaded();
        reloaded["defaultConfig"]["tracing"] = json!({"datadog": datadog});
        assert_eq!(unloaded_mesh_setting(ReleaseTypes::EXPORTED, &both, &reloaded), None);
        let only_zipkin = tracing(json!({"zipkin": zipkin, "datadog": null}));
        let only_zipkin = unloaded_mesh_setting(ReleaseTypes::EXPORTED, &only_zipkin, &reloaded);
        assert_eq!(only_zipkin.as_deref(), Some("defaultConfig.tracing.zipkin.address"));
    }

    #[test]
    fn ignores_fields_of_later_releases() {
        let rendered =
            json!({"hboneIdleTimeout": "5s", "defaultConfig": {"connectionSettings": {"httpMergeSlashes": true}}});
        let unloaded = |minor: u64| {
            let types = ReleaseTypes::of(&semver::Version::new(1, minor, 0));
            unloaded_mesh_setting(types, &rendered, &loaded())
        };
        assert_eq!(unloaded(28), None);
        assert_eq!(unloaded(29).as_deref(), Some("hboneIdleTimeout"));
    }

    #[test]
    fn exclusive_fields_are_in_the_schema() {
        for (message, group) in EXCLUSIVE_FIELDS {
            for name in group {
                assert!(SCHEMA.messages[message].contains_key(*name), "{message}.{name}");
            }
        }
    }

    #[test]
    fn compares_values_as_go_reads_them() {
        let rendered = json!({"global": {"tag": "1.32.0", "n": 5, "f": 1.5, "none": null}, "list": [1, {"a": "<b>"}]});
        let loaded =
            json!({"global": {"tag": "1.32.0", "n": 5.0, "f": 1.5, "none": null}, "list": [1.0, {"a": "<b>"}]});
        assert_eq!(different_value(&rendered, &loaded), None);
        let with = |path: &str, value: Value| {
            let mut changed = loaded.clone();
            *changed.pointer_mut(path).unwrap() = value;
            different_value(&rendered, &changed)
        };
        assert_eq!(with("/global/tag", json!("1.31.0")).as_deref(), Some("global.tag"));
        assert_eq!(with("/list/1/a", json!("c")).as_deref(), Some("list[1].a"));
        assert_eq!(with("/list", json!([1])).as_deref(), Some("list"));
        assert_eq!(with("/global", json!({"tag": "1.32.0"})).as_deref(), Some("global.f"));
        let more = json!({"a": 1, "b": 2});
        assert_eq!(different_value(&json!({"a": 1}), &more).as_deref(), Some("b"), "a removed value");
    }
}
