//! Where each field of the spec appears in the rendered objects.

mod gateways;
mod revisions;

pub use gateways::edge;

use serde_json::{Value, json};

/// A field with one place where it appears. A field can have several effects.
pub struct FieldEffect {
    /// The field's path in the schema; `[]` follows a list.
    pub field: &'static str,
    /// Fields of the spec that set it.
    pub spec: Value,
    /// The object in which it appears.
    pub object: &'static str,
    /// The path in the object for [`super::rendering::value_at`].
    pub path: &'static str,
    /// The value at the path, which differs without the field.
    pub expected: Value,
}

/// Fields that configure the operator's behavior and appear in no object.
pub const WITHOUT_EFFECT: [&str; 19] = [
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
/// The ConfigMap of the injector's configuration.
pub const INJECTOR: &str = "ConfigMap istio-system/istio-sidecar-injector";
const WEBHOOK: &str = "MutatingWebhookConfiguration istio-sidecar-injector";
const GATEWAY: &str = "Deployment istio-system/edge";
const SERVICE: &str = "Service istio-system/edge";

fn effect(
    field: &'static str,
    spec: Value,
    object: &'static str,
    path: &'static str,
    expected: impl Into<Value>,
) -> FieldEffect {
    FieldEffect { field, spec, object, path, expected: expected.into() }
}

/// The effects of all fields.
pub fn effects() -> Vec<FieldEffect> {
    [
        mesh(),
        revisions::effects(),
        control_plane(),
        injector(),
        proxy(),
        cni_ztunnel(),
        patches(),
        images(),
        add_ons(),
        gateways::effects(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn mesh() -> Vec<FieldEffect> {
    let pod = "spec template metadata labels a";
    let platform = "spec template spec containers 0 env name=PLATFORM value";
    let http2 = "spec ports name=http2 nodePort";
    vec![
        effect("platform", json!({"platform": "gke"}), ISTIOD, platform, "gke"),
        effect("platform", json!({"platform": "vmware-pks"}), SERVICE, "spec type", "NodePort"),
        effect("profile", json!({"profile": "minimal"}), ISTIOD, "spec replicas", 1),
        effect("profile", json!({"profile": "demo"}), MESH, "data mesh yaml accessLogFile", "/dev/stdout"),
        effect("namespace", json!({"namespace": "mesh"}), "Service mesh/istiod", "metadata namespace", "mesh"),
        effect(
            "namespaceLabels",
            json!({"namespaceLabels": {"a": "b"}}),
            "Namespace istio-system",
            "metadata labels a",
            "b",
        ),
        effect("nodePorts.range", json!({"nodePorts": {"range": "30400-30449"}}), SERVICE, http2, 30400),
        effect("nodePorts.reserved", json!({"nodePorts": {"reserved": ["30000"]}}), SERVICE, http2, 30001),
        effect("nodePorts.assignment", json!({"nodePorts": {"assignment": "Kubernetes"}}), SERVICE, http2, Value::Null),
        effect(
            "meshConfig",
            json!({"meshConfig": {"enableTracing": true}}),
            MESH,
            "data mesh yaml enableTracing",
            true,
        ),
        effect(
            "values.base",
            json!({"values": {"base": {"experimental": {"stableValidationPolicy": true}}}}),
            "ValidatingAdmissionPolicy stable-channel-default-policy.istio.io",
            "metadata name",
            "stable-channel-default-policy.istio.io",
        ),
        effect("values.istiod", json!({"values": {"istiod": {"podLabels": {"a": "b"}}}}), ISTIOD, pod, "b"),
    ]
}

fn control_plane() -> Vec<FieldEffect> {
    let is = |fields: Value| json!({"controlPlane": fields});
    let scaled =
        || is(json!({"autoscaling": {"minReplicas": 2, "maxReplicas": 7, "targetCPUUtilizationPercentage": 55}}));
    let utilization = "spec metrics 0 resource target averageUtilization";
    let sized = || is(json!({"resources": {"requests": {"cpu": "11m"}, "limits": {"memory": "3Gi"}}}));
    let requests = "spec template spec containers name=discovery resources requests cpu";
    let limits = "spec template spec containers name=discovery resources limits memory";
    let env = || is(json!({"env": [{"name": "PILOT_ENABLE_STATUS", "value": "true"}]}));
    let variable = "spec template spec containers name=discovery env name=PILOT_ENABLE_STATUS name";
    let value = "spec template spec containers name=discovery env name=PILOT_ENABLE_STATUS value";
    vec![
        effect("controlPlane.replicas", is(json!({"replicas": 3})), ISTIOD, "spec replicas", 3),
        effect("controlPlane.autoscaling.minReplicas", scaled(), SCALER, "spec minReplicas", 2),
        effect("controlPlane.autoscaling.maxReplicas", scaled(), SCALER, "spec maxReplicas", 7),
        effect("controlPlane.autoscaling.targetCPUUtilizationPercentage", scaled(), SCALER, utilization, 55),
        effect("controlPlane.resources.requests", sized(), ISTIOD, requests, "11m"),
        effect("controlPlane.resources.limits", sized(), ISTIOD, limits, "3Gi"),
        effect("controlPlane.env[].name", env(), ISTIOD, variable, "PILOT_ENABLE_STATUS"),
        effect("controlPlane.env[].value", env(), ISTIOD, value, "true"),
    ]
    .into_iter()
    .chain(placement("controlPlane", ISTIOD, is))
    .collect()
}

/// Effects that istiod and gateways have in common.
fn placement(of: &str, object: &'static str, is: impl Fn(Value) -> Value) -> Vec<FieldEffect> {
    let field = |name: &str| -> &'static str { format!("{of}.{name}").leak() };
    let toleration = json!({"key": "k", "operator": "Exists"});
    let term = json!({"matchExpressions": [{"key": "k", "operator": "Exists"}]});
    let affinity =
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}});
    vec![
        effect(
            field("nodeSelector"),
            is(json!({"nodeSelector": {"a": "b"}})),
            object,
            "spec template spec nodeSelector a",
            "b",
        ),
        effect(
            field("tolerations"),
            is(json!({"tolerations": [toleration]})),
            object,
            "spec template spec tolerations key=k operator",
            "Exists",
        ),
        effect(field("affinity"), is(json!({"affinity": affinity})), object, "spec template spec affinity", affinity),
        effect(
            field("podAnnotations"),
            is(json!({"podAnnotations": {"example.com/a": "b"}})),
            object,
            "spec template metadata annotations example.com/a",
            "b",
        ),
    ]
}

fn injector() -> Vec<FieldEffect> {
    let is = |fields: Value| json!({"injector": fields});
    let selector = || json!([{"matchLabels": {"job": "nightly"}}]);
    let auto = "auto.sidecar-injector.istio.io";
    vec![
        effect(
            "injector.enableNamespacesByDefault",
            is(json!({"enableNamespacesByDefault": true})),
            WEBHOOK,
            "webhooks name=auto.sidecar-injector.istio.io name",
            auto,
        ),
        effect(
            "injector.rewriteAppHTTPProbe",
            is(json!({"rewriteAppHTTPProbe": false})),
            INJECTOR,
            "data values yaml sidecarInjectorWebhook rewriteAppHTTPProbe",
            false,
        ),
        effect(
            "injector.neverInjectSelector",
            is(json!({"neverInjectSelector": selector()})),
            INJECTOR,
            "data config yaml neverInjectSelector",
            selector(),
        ),
        effect(
            "injector.alwaysInjectSelector",
            is(json!({"alwaysInjectSelector": selector()})),
            INJECTOR,
            "data config yaml alwaysInjectSelector",
            selector(),
        ),
        effect(
            "injector.injectedAnnotations",
            is(json!({"injectedAnnotations": {"example.com/a": "b"}})),
            INJECTOR,
            "data config yaml injectedAnnotations example.com/a",
            "b",
        ),
    ]
}

fn proxy() -> Vec<FieldEffect> {
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
        effect("proxy.resources.requests", sized(), INJECTOR, requests, "11m"),
        effect("proxy.resources.limits", sized(), INJECTOR, limits, "3Gi"),
        effect("proxy.logLevel", is(json!({"logLevel": "debug"})), INJECTOR, level, "debug"),
        effect("proxy.accessLog.file", log(), MESH, "data mesh yaml accessLogFile", "/var/log/a"),
        effect("proxy.accessLog.encoding", log(), MESH, "data mesh yaml accessLogEncoding", "JSON"),
        effect(
            "proxy.holdApplicationUntilProxyStarts",
            is(json!({"holdApplicationUntilProxyStarts": true})),
            INJECTOR,
            hold,
            true,
        ),
        effect("proxy.nativeSidecar", is(json!({"nativeSidecar": true})), ISTIOD, native, "true"),
        traffic("includeIPRanges", &ranges(), "data values yaml global proxy includeIPRanges", "10.0.0.0/8,fd00::/8"),
        traffic("excludeIPRanges", &ranges(), "data values yaml global proxy excludeIPRanges", "10.0.0.0/8,fd00::/8"),
        traffic("includeInboundPorts", &ports(), "data values yaml global proxy includeInboundPorts", "8080,9090"),
        traffic("excludeInboundPorts", &ports(), "data values yaml global proxy excludeInboundPorts", "8080,9090"),
        traffic("includeOutboundPorts", &ports(), "data values yaml global proxy includeOutboundPorts", "8080,9090"),
        traffic("excludeOutboundPorts", &ports(), "data values yaml global proxy excludeOutboundPorts", "8080,9090"),
    ]
}

fn traffic(name: &str, list: &Value, path: &'static str, expected: &str) -> FieldEffect {
    effect(format!("proxy.{name}").leak(), json!({"proxy": {name: list}}), INJECTOR, path, expected)
}

fn images() -> Vec<FieldEffect> {
    let registry = || json!({"images": {"registry": "registry.example.com/istio"}});
    let policy = || json!({"images": {"pullPolicy": "Always"}});
    let secrets = || json!({"images": {"imagePullSecrets": [{"name": "key"}]}});
    let digest = format!("sha256:{}", "a".repeat(64));
    let pinned = json!({"images": {"registry": "registry.example.com/istio", "digests": {"proxyv2": digest}}});
    let istiod = |what: &str| -> &'static str { format!("spec template spec containers name=discovery {what}").leak() };
    let gateway = "spec template spec containers name=istio-proxy imagePullPolicy";
    let reader = "ServiceAccount istio-system/istio-reader-service-account";
    let injected = "data values yaml global imagePullSecrets 0";
    vec![
        effect("images.registry", registry(), ISTIOD, istiod("image"), "registry.example.com/istio/pilot:*"),
        effect("images.registry", registry(), INJECTOR, "data values yaml global hub", "registry.example.com/istio"),
        effect("images.pullPolicy", policy(), ISTIOD, istiod("imagePullPolicy"), "Always"),
        effect("images.pullPolicy", policy(), INJECTOR, "data values yaml global imagePullPolicy", "Always"),
        effect("images.pullPolicy", policy(), GATEWAY, gateway, "Always"),
        effect("images.imagePullSecrets[].name", secrets(), ACCOUNT, "imagePullSecrets 0 name", "key"),
        effect("images.imagePullSecrets[].name", secrets(), reader, "imagePullSecrets 0 name", "key"),
        effect("images.imagePullSecrets[].name", secrets(), INJECTOR, injected, "key"),
        effect(
            "images.imagePullSecrets[].name",
            secrets(),
            GATEWAY,
            "spec template spec imagePullSecrets 0 name",
            "key",
        ),
        effect(
            "images.digests",
            pinned,
            INJECTOR,
            "data values yaml global proxy image",
            "registry.example.com/istio/proxyv2:*",
        ),
    ]
}

fn add_ons() -> Vec<FieldEffect> {
    let prometheus = "Deployment istio-system/prometheus";
    let listed = |values: Value| json!({"addons": [{"name": "prometheus", "values": values}]});
    let user = "spec template spec securityContext runAsUser";
    vec![
        effect("addons[].name", listed(json!({})), prometheus, "metadata name", "prometheus"),
        effect("addons[].values", listed(json!({"user": 4711})), prometheus, user, 4711),
    ]
}

fn cni_ztunnel() -> Vec<FieldEffect> {
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
        effect("cni.mode", on(), cni, "metadata name", "istio-cni-node"),
        effect("cni.namespace", elsewhere(), "DaemonSet a/istio-cni-node", "metadata namespace", "a"),
        effect("cni.resources.requests", large(), cni, container("install-cni", "resources requests cpu"), "11m"),
        effect("cni.resources.limits", large(), cni, container("install-cni", "resources limits memory"), "3Gi"),
        effect("values.cni", valued("cni", json!({"chained": false})), config, "data CHAINED_CNI_PLUGIN", "false"),
        effect("ztunnel.mode", on(), ztunnel, "metadata name", "ztunnel"),
        effect("ztunnel.namespace", elsewhere(), "DaemonSet b/ztunnel", "metadata namespace", "b"),
        effect(
            "ztunnel.resources.requests",
            large(),
            ztunnel,
            container("istio-proxy", "resources requests cpu"),
            "11m",
        ),
        effect(
            "ztunnel.resources.limits",
            large(),
            ztunnel,
            container("istio-proxy", "resources limits memory"),
            "3Gi",
        ),
        effect(
            "values.ztunnel",
            valued("ztunnel", json!({"logLevel": "debug"})),
            ztunnel,
            container("istio-proxy", "env name=RUST_LOG value"),
            "debug",
        ),
    ]
}

fn patches() -> Vec<FieldEffect> {
    let target = json!({"kind": "Service", "name": "istiod", "namespace": "istio-system"});
    let istiod = "Service istio-system/istiod";
    let add = json!({"op": "add", "path": "/metadata/labels/a", "value": "b"});
    let copy = json!({"op": "copy", "from": "/metadata/name", "path": "/metadata/labels/copied"});
    let spec = || json!({"patches": [{"target": target, "patch": [add, copy]}]});
    let added = ["target.kind", "target.name", "target.namespace", "patch[].op", "patch[].path", "patch[].value"]
        .map(|field| effect(format!("patches[].{field}").leak(), spec(), istiod, "metadata labels a", "b"));
    let copied = effect("patches[].patch[].from", spec(), istiod, "metadata labels copied", "istiod");
    added.into_iter().chain([copied]).collect()
}
