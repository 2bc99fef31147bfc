//! Revision and tags.

use serde_json::{Value, json};

use super::{GATEWAY, Row, WEBHOOK, row};

pub(super) fn rows() -> Vec<Row> {
    let canary = |fields: Value| {
        let mut spec = json!({"revision": "canary"});
        meshwright::mesh::merge::merge(&mut spec, fields);
        spec
    };
    let agents = || canary(json!({"cni": {"mode": "Enabled"}, "ztunnel": {"mode": "Enabled"}}));
    let tagged = || json!({"tags": [{"name": "prod"}]});
    let default = || canary(json!({"tags": [{"name": "default"}]}));
    let tag = "MutatingWebhookConfiguration istio-revision-tag-prod";
    let of_tag = "MutatingWebhookConfiguration istio-revision-tag-default";
    let validator = "ValidatingWebhookConfiguration istiod-default-validator";
    let service = "webhooks 0 clientConfig service name";
    let xds = "spec template spec containers name=istio-proxy env name=XDS_ADDRESS value";
    let address = "data mesh yaml defaultConfig discoveryAddress";
    let canary_istiod = "Deployment istio-system/istiod-canary";
    let rev = "metadata labels istio.io/rev";
    let env = "spec template spec containers name=discovery env name=REVISION value";
    vec![
        row("revision", canary(json!({})), canary_istiod, env, "canary"),
        row(
            "revision",
            canary(json!({})),
            "ConfigMap istio-system/istio-canary",
            address,
            "istiod-canary.istio-system.svc:15012",
        ),
        row(
            "revision",
            canary(json!({})),
            "MutatingWebhookConfiguration istio-sidecar-injector-canary",
            service,
            "istiod-canary",
        ),
        row("revision", canary(json!({})), GATEWAY, "spec template metadata labels istio.io/rev", "canary"),
        row("revision", canary(json!({})), validator, "metadata name", Value::Null),
        row("revision", canary(json!({})), WEBHOOK, "metadata name", Value::Null),
        row("revision", agents(), "DaemonSet istio-system/ztunnel", xds, "istiod-canary.istio-system.svc:15012"),
        row("revision", agents(), "DaemonSet istio-system/istio-cni-node", rev, "canary"),
        row("tags[].name", tagged(), tag, service, "istiod"),
        row("tags[].name", tagged(), "Service istio-system/istiod-revision-tag-prod", rev, "default"),
        row("tags[].name", default(), of_tag, service, "istiod-canary"),
        row(
            "tags[].name",
            default(),
            of_tag,
            "webhooks name=namespace.sidecar-injector.istio.io clientConfig service name",
            "istiod-canary",
        ),
        row("tags[].name", default(), validator, service, "istiod-canary"),
        row("tags[].name", default(), validator, rev, "canary"),
    ]
}
