//! Revision and tags.

use serde_json::{Value, json};

use super::{FieldEffect, GATEWAY, WEBHOOK, effect};

pub(super) fn effects() -> Vec<FieldEffect> {
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
        effect("revision", canary(json!({})), canary_istiod, env, "canary"),
        effect(
            "revision",
            canary(json!({})),
            "ConfigMap istio-system/istio-canary",
            address,
            "istiod-canary.istio-system.svc:15012",
        ),
        effect(
            "revision",
            canary(json!({})),
            "MutatingWebhookConfiguration istio-sidecar-injector-canary",
            service,
            "istiod-canary",
        ),
        effect("revision", canary(json!({})), GATEWAY, "spec template metadata labels istio.io/rev", "canary"),
        effect("revision", canary(json!({})), validator, "metadata name", Value::Null),
        effect("revision", canary(json!({})), WEBHOOK, "metadata name", Value::Null),
        effect("revision", agents(), "DaemonSet istio-system/ztunnel", xds, "istiod-canary.istio-system.svc:15012"),
        effect("revision", agents(), "DaemonSet istio-system/istio-cni-node", rev, "canary"),
        effect("tags[].name", tagged(), tag, service, "istiod"),
        effect("tags[].name", tagged(), "Service istio-system/istiod-revision-tag-prod", rev, "default"),
        effect("tags[].name", default(), of_tag, service, "istiod-canary"),
        effect(
            "tags[].name",
            default(),
            of_tag,
            "webhooks name=namespace.sidecar-injector.istio.io clientConfig service name",
            "istiod-canary",
        ),
        effect("tags[].name", default(), validator, service, "istiod-canary"),
        effect("tags[].name", default(), validator, rev, "canary"),
    ]
}
