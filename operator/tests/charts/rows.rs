//! Where each field of the spec shows.

mod gateways;
mod revisions;

pub use gateways::edge;

use serde_json::{Value, json};

/// One field, and one place where it shows. A field can have several.
pub struct Row {
    /// The field, as the schema has it; entries of lists are marked `[]`.
    pub field: &'static str,
    /// The spec's fields that set it.
    pub spec: Value,
    /// The object.
    pub object: &'static str,
    /// Where in it, as [`super::rendering::look`] reads it.
    pub path: &'static str,
    /// What is there then, and isn't without the field.
    pub expected: Value,
}

/// Fields that shape no object: what the operator does, rather than what the mesh is.
pub const SHAPE_NOTHING: [&str; 19] = [
    "version",
    "adoption",
    "paused",
    "deletion.policy",
    "deletion.whileInUse",
    "deletion.crds",
    "gateways[].requireAddress",
    "upgrade.progressDeadline",
    "upgrade.onFailure",
    "upgrade.allow",
    "upgrade.strategy",
    "upgrade.retireAfter",
    "proxy.update.mode",
    "proxy.update.windows[].days",
    "proxy.update.windows[].start",
    "proxy.update.windows[].end",
    "proxy.update.windows[].timeZone",
    "proxy.update.restartsPerMinute",
    "proxy.update.maxFailures",
];

const ISTIOD: &str = "Deployment istio-system/istiod";
const SCALER: &str = "HorizontalPodAutoscaler istio-system/istiod";
const ACCOUNT: &str = "ServiceAccount istio-system/istiod";
const MESH: &str = "ConfigMap istio-system/istio";
/// The injector's configuration.
pub const INJECTOR: &str = "ConfigMap istio-system/istio-sidecar-injector";
const WEBHOOK: &str = "MutatingWebhookConfiguration istio-sidecar-injector";
const GATEWAY: &str = "Deployment istio-system/edge";
const SERVICE: &str = "Service istio-system/edge";

fn row(field: &'static str, spec: Value, object: &'static str, path: &'static str, expected: impl Into<Value>) -> Row {
    Row { field, spec, object, path, expected: expected.into() }
}

/// All rows.
pub fn rows() -> Vec<Row> {
    [
        whole(),
        revisions::rows(),
        control_plane(),
        injector(),
        proxy(),
        node_agents(),
        patches(),
        images(),
        add_ons(),
        gateways::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn whole() -> Vec<Row> {
    let pod = "spec template metadata labels a";
    let platform = "spec template spec containers 0 env name=PLATFORM value";
    let http2 = "spec ports name=http2 nodePort";
    vec![
        row("platform", json!({"platform": "gke"}), ISTIOD, platform, "gke"),
        row("platform", json!({"platform": "vmware-pks"}), SERVICE, "spec type", "NodePort"),
        row("profile", json!({"profile": "minimal"}), ISTIOD, "spec replicas", 1),
        row("profile", json!({"profile": "demo"}), MESH, "data mesh yaml accessLogFile", "/dev/stdout"),
        row("namespace", json!({"namespace": "mesh"}), "Service mesh/istiod", "metadata namespace", "mesh"),
        row(
            "namespaceLabels",
            json!({"namespaceLabels": {"a": "b"}}),
            "Namespace istio-system",
            "metadata labels a",
            "b",
        ),
        row("nodePorts.range", json!({"nodePorts": {"range": "30400-30449"}}), SERVICE, http2, 30400),
        row("nodePorts.reserved", json!({"nodePorts": {"reserved": ["30000"]}}), SERVICE, http2, 30001),
        row("nodePorts.assignment", json!({"nodePorts": {"assignment": "Kubernetes"}}), SERVICE, http2, Value::Null),
        row("meshConfig", json!({"meshConfig": {"enableTracing": true}}), MESH, "data mesh yaml enableTracing", true),
        row(
            "values.base",
            json!({"values": {"base": {"experimental": {"stableValidationPolicy": true}}}}),
            "ValidatingAdmissionPolicy stable-channel-default-policy.istio.io",
            "metadata name",
            "stable-channel-default-policy.istio.io",
        ),
        row("values.istiod", json!({"values": {"istiod": {"podLabels": {"a": "b"}}}}), ISTIOD, pod, "b"),
    ]
}

fn control_plane() -> Vec<Row> {
    let is = |fields: Value| json!({"controlPlane": fields});
    let scaled = || is(json!({"autoscaling": {"min": 2, "max": 7, "targetCPU": 55}}));
    let utilization = "spec metrics 0 resource target averageUtilization";
    let sized = || is(json!({"resources": {"requests": {"cpu": "11m"}, "limits": {"memory": "3Gi"}}}));
    let requests = "spec template spec containers name=discovery resources requests cpu";
    let limits = "spec template spec containers name=discovery resources limits memory";
    let env = || is(json!({"env": [{"name": "PILOT_ENABLE_STATUS", "value": "true"}]}));
    let variable = "spec template spec containers name=discovery env name=PILOT_ENABLE_STATUS name";
    let value = "spec template spec containers name=discovery env name=PILOT_ENABLE_STATUS value";
    vec![
        row("controlPlane.replicas", is(json!({"replicas": 3})), ISTIOD, "spec replicas", 3),
        row("controlPlane.autoscaling.min", scaled(), SCALER, "spec minReplicas", 2),
        row("controlPlane.autoscaling.max", scaled(), SCALER, "spec maxReplicas", 7),
        row("controlPlane.autoscaling.targetCPU", scaled(), SCALER, utilization, 55),
        row("controlPlane.resources.requests", sized(), ISTIOD, requests, "11m"),
        row("controlPlane.resources.limits", sized(), ISTIOD, limits, "3Gi"),
        row("controlPlane.env[].name", env(), ISTIOD, variable, "PILOT_ENABLE_STATUS"),
        row("controlPlane.env[].value", env(), ISTIOD, value, "true"),
    ]
    .into_iter()
    .chain(placement("controlPlane", ISTIOD, is))
    .collect()
}

/// What both kinds of workload have.
fn placement(of: &str, object: &'static str, is: impl Fn(Value) -> Value) -> Vec<Row> {
    let field = |name: &str| -> &'static str { format!("{of}.{name}").leak() };
    let toleration = json!({"key": "k", "operator": "Exists"});
    let term = json!({"matchExpressions": [{"key": "k", "operator": "Exists"}]});
    let affinity =
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}});
    vec![
        row(
            field("nodeSelector"),
            is(json!({"nodeSelector": {"a": "b"}})),
            object,
            "spec template spec nodeSelector a",
            "b",
        ),
        row(
            field("tolerations"),
            is(json!({"tolerations": [toleration]})),
            object,
            "spec template spec tolerations key=k operator",
            "Exists",
        ),
        row(field("affinity"), is(json!({"affinity": affinity})), object, "spec template spec affinity", affinity),
        row(
            field("podAnnotations"),
            is(json!({"podAnnotations": {"example.com/a": "b"}})),
            object,
            "spec template metadata annotations example.com/a",
            "b",
        ),
    ]
}

fn injector() -> Vec<Row> {
    let is = |fields: Value| json!({"injector": fields});
    let selector = || json!([{"matchLabels": {"job": "nightly"}}]);
    let auto = "auto.sidecar-injector.istio.io";
    vec![
        row(
            "injector.enableNamespacesByDefault",
            is(json!({"enableNamespacesByDefault": true})),
            WEBHOOK,
            "webhooks name=auto.sidecar-injector.istio.io name",
            auto,
        ),
        row(
            "injector.rewriteAppHTTPProbe",
            is(json!({"rewriteAppHTTPProbe": false})),
            INJECTOR,
            "data values yaml sidecarInjectorWebhook rewriteAppHTTPProbe",
            false,
        ),
        row(
            "injector.neverInjectSelector",
            is(json!({"neverInjectSelector": selector()})),
            INJECTOR,
            "data config yaml neverInjectSelector",
            selector(),
        ),
        row(
            "injector.alwaysInjectSelector",
            is(json!({"alwaysInjectSelector": selector()})),
            INJECTOR,
            "data config yaml alwaysInjectSelector",
            selector(),
        ),
        row(
            "injector.injectedAnnotations",
            is(json!({"injectedAnnotations": {"example.com/a": "b"}})),
            INJECTOR,
            "data config yaml injectedAnnotations example.com/a",
            "b",
        ),
    ]
}

fn proxy() -> Vec<Row> {
    let is = |fields: Value| json!({"proxy": fields});
    let ports = || json!(["8080", "9090"]);
    let ranges = || json!(["10.0.0.0/8", "fd00::/8"]);
    let sized = || is(json!({"resources": {"requests": {"cpu": "11m"}, "limits": {"memory": "3Gi"}}}));
    let log = || is(json!({"accessLog": {"file": "/var/log/a", "encoding": "Json"}}));
    let requests = "data values yaml global proxy resources requests cpu";
    let limits = "data values yaml global proxy resources limits memory";
    let level = "data values yaml global proxy logLevel";
    let hold = "data values yaml global proxy holdApplicationUntilProxyStarts";
    let native = "spec template spec containers name=discovery env name=ENABLE_NATIVE_SIDECARS value";
    vec![
        row("proxy.resources.requests", sized(), INJECTOR, requests, "11m"),
        row("proxy.resources.limits", sized(), INJECTOR, limits, "3Gi"),
        row("proxy.logLevel", is(json!({"logLevel": "debug"})), INJECTOR, level, "debug"),
        row("proxy.accessLog.file", log(), MESH, "data mesh yaml accessLogFile", "/var/log/a"),
        row("proxy.accessLog.encoding", log(), MESH, "data mesh yaml accessLogEncoding", "JSON"),
        row(
            "proxy.holdApplicationUntilProxyStarts",
            is(json!({"holdApplicationUntilProxyStarts": true})),
            INJECTOR,
            hold,
            true,
        ),
        row("proxy.nativeSidecar", is(json!({"nativeSidecar": true})), ISTIOD, native, "true"),
        traffic("includeIPRanges", &ranges(), "data values yaml global proxy includeIPRanges", "10.0.0.0/8,fd00::/8"),
        traffic("excludeIPRanges", &ranges(), "data values yaml global proxy excludeIPRanges", "10.0.0.0/8,fd00::/8"),
        traffic("includeInboundPorts", &ports(), "data values yaml global proxy includeInboundPorts", "8080,9090"),
        traffic("excludeInboundPorts", &ports(), "data values yaml global proxy excludeInboundPorts", "8080,9090"),
        traffic("includeOutboundPorts", &ports(), "data values yaml global proxy includeOutboundPorts", "8080,9090"),
        traffic("excludeOutboundPorts", &ports(), "data values yaml global proxy excludeOutboundPorts", "8080,9090"),
    ]
}

fn traffic(name: &str, list: &Value, path: &'static str, expected: &str) -> Row {
    row(format!("proxy.{name}").leak(), json!({"proxy": {name: list}}), INJECTOR, path, expected)
}

fn images() -> Vec<Row> {
    let registry = || json!({"images": {"registry": "registry.example.com/istio"}});
    let policy = || json!({"images": {"pullPolicy": "Always"}});
    let secrets = || json!({"images": {"pullSecrets": ["key"]}});
    let digest = format!("sha256:{}", "a".repeat(64));
    let pinned = json!({"images": {"registry": "registry.example.com/istio", "digests": {"proxyv2": digest}}});
    let istiod = |what: &str| -> &'static str { format!("spec template spec containers name=discovery {what}").leak() };
    let gateway = "spec template spec containers name=istio-proxy imagePullPolicy";
    let reader = "ServiceAccount istio-system/istio-reader-service-account";
    let injected = "data values yaml global imagePullSecrets 0";
    vec![
        row("images.registry", registry(), ISTIOD, istiod("image"), "registry.example.com/istio/pilot:*"),
        row("images.registry", registry(), INJECTOR, "data values yaml global hub", "registry.example.com/istio"),
        row("images.pullPolicy", policy(), ISTIOD, istiod("imagePullPolicy"), "Always"),
        row("images.pullPolicy", policy(), INJECTOR, "data values yaml global imagePullPolicy", "Always"),
        row("images.pullPolicy", policy(), GATEWAY, gateway, "Always"),
        row("images.pullSecrets", secrets(), ACCOUNT, "imagePullSecrets 0 name", "key"),
        row("images.pullSecrets", secrets(), reader, "imagePullSecrets 0 name", "key"),
        row("images.pullSecrets", secrets(), INJECTOR, injected, "key"),
        row("images.pullSecrets", secrets(), GATEWAY, "spec template spec imagePullSecrets 0 name", "key"),
        row(
            "images.digests",
            pinned,
            INJECTOR,
            "data values yaml global proxy image",
            "registry.example.com/istio/proxyv2:*",
        ),
    ]
}

fn add_ons() -> Vec<Row> {
    let prometheus = "Deployment istio-system/prometheus";
    let listed = |values: Value| json!({"addons": [{"name": "prometheus", "values": values}]});
    let user = "spec template spec securityContext runAsUser";
    vec![
        row("addons[].name", listed(json!({})), prometheus, "metadata name", "prometheus"),
        row("addons[].values", listed(json!({"user": 4711})), prometheus, user, 4711),
    ]
}

fn node_agents() -> Vec<Row> {
    let container = |name: &str, rest: &str| format!("spec template spec containers name={name} {rest}").leak();
    let sized = || json!({"requests": {"cpu": "11m"}, "limits": {"memory": "3Gi"}});
    let both = |cni: Value, ztunnel: Value| {
        let mut spec = json!({"cni": {"mode": "Enabled"}, "ztunnel": {"mode": "Enabled"}});
        meshwright::mesh::merge::merge(&mut spec, json!({"cni": cni, "ztunnel": ztunnel}));
        spec
    };
    let on = || both(json!({}), json!({}));
    let elsewhere = || both(json!({"namespace": "a"}), json!({"namespace": "b"}));
    let large = || both(json!({"resources": sized()}), json!({"resources": sized()}));
    let valued = |name: &str, values: Value| {
        let mut spec = on();
        spec["values"] = json!({name: values});
        spec
    };
    let (cni, ztunnel) = ("DaemonSet istio-system/istio-cni-node", "DaemonSet istio-system/ztunnel");
    let config = "ConfigMap istio-system/istio-cni-config";
    vec![
        row("cni.mode", on(), cni, "metadata name", "istio-cni-node"),
        row("cni.namespace", elsewhere(), "DaemonSet a/istio-cni-node", "metadata namespace", "a"),
        row("cni.resources.requests", large(), cni, container("install-cni", "resources requests cpu"), "11m"),
        row("cni.resources.limits", large(), cni, container("install-cni", "resources limits memory"), "3Gi"),
        row("values.cni", valued("cni", json!({"chained": false})), config, "data CHAINED_CNI_PLUGIN", "false"),
        row("ztunnel.mode", on(), ztunnel, "metadata name", "ztunnel"),
        row("ztunnel.namespace", elsewhere(), "DaemonSet b/ztunnel", "metadata namespace", "b"),
        row("ztunnel.resources.requests", large(), ztunnel, container("istio-proxy", "resources requests cpu"), "11m"),
        row("ztunnel.resources.limits", large(), ztunnel, container("istio-proxy", "resources limits memory"), "3Gi"),
        row(
            "values.ztunnel",
            valued("ztunnel", json!({"logLevel": "debug"})),
            ztunnel,
            container("istio-proxy", "env name=RUST_LOG value"),
            "debug",
        ),
    ]
}

fn patches() -> Vec<Row> {
    let target = json!({"kind": "Service", "name": "istiod", "namespace": "istio-system"});
    let istiod = "Service istio-system/istiod";
    let add = json!({"op": "add", "path": "/metadata/labels/a", "value": "b"});
    let copy = json!({"op": "copy", "from": "/metadata/name", "path": "/metadata/labels/copied"});
    let spec = || json!({"patches": [{"target": target, "patch": [add, copy]}]});
    let added = ["target.kind", "target.name", "target.namespace", "patch[].op", "patch[].path", "patch[].value"]
        .map(|field| row(format!("patches[].{field}").leak(), spec(), istiod, "metadata labels a", "b"));
    let copied = row("patches[].patch[].from", spec(), istiod, "metadata labels copied", "istiod");
    added.into_iter().chain([copied]).collect()
}
