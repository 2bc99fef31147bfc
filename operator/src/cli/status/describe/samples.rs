//! Test data: MeshInstallations with a status.

use meshwright_api::MeshInstallation;
use serde_json::{Value, json};

/// A MeshInstallation with this status, at generation 1.
pub fn with_status(status: &Value) -> MeshInstallation {
    serde_json::from_value(json!({
        "apiVersion": "meshwright.dev/v1alpha1",
        "kind": "MeshInstallation",
        "metadata": {"name": "demo", "generation": 1},
        "spec": {
            "version": "1.31",
            "profile": "demo",
            "gateways": [{"name": "istio-ingressgateway", "service": {"type": "NodePort"}}],
        },
        "status": status,
    }))
    .unwrap()
}

/// A condition that changed at 04:00.
pub fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": 1,
        "lastTransitionTime": "2026-11-21T04:00:00Z",
    })
}

/// A ready mesh.
pub fn ready() -> MeshInstallation {
    with_status(&json!({
        "observedGeneration": 1,
        "phase": "Ready",
        "conditions": [
            condition("Available", "True", "Serving", "the control plane is available"),
            condition("Ready", "True", "Healthy", "Istio 1.31.2 is ready"),
        ],
        "version": {"desired": "1.31", "resolved": "1.31.2", "running": "1.31.2"},
        "components": [
            {"name": "base", "namespace": "istio-system", "version": "1.31.2", "ready": 14, "desired": 14},
            {"name": "istiod", "namespace": "istio-system", "version": "1.31.2", "ready": 1, "desired": 1},
            {"name": "istio-ingressgateway", "namespace": "istio-system", "version": "1.31.2", "ready": 1, "desired": 1},
        ],
        "gateways": [{
            "name": "istio-ingressgateway", "namespace": "istio-system", "ready": true,
            "addresses": ["10.98.1.1", "10.98.1.2"], "addressType": "Node",
            "ports": [
                {"name": "http2", "port": 80, "nodePort": 30401},
                {"name": "https", "port": 443, "nodePort": 30402},
                {"name": "http3", "port": 443, "protocol": "UDP"},
            ],
        }],
        "nodePorts": [
            {"port": 30401, "namespace": "istio-system", "service": "istio-ingressgateway", "portName": "http2", "from": "Spec"},
            {"port": 30402, "namespace": "istio-system", "service": "istio-ingressgateway", "portName": "https", "from": "Spec"},
        ],
        "platform": {"nodePortRange": {"range": "30400-30449", "source": "Discovered"}},
        "ca": {"source": "SelfSigned", "notAfter": "2036-11-18T04:00:00Z"},
    }))
}

/// A mesh during its installation.
pub fn installing() -> MeshInstallation {
    let message = "istiod: 0 of 1 pods are ready";
    with_status(&json!({
        "observedGeneration": 1,
        "phase": "Installing",
        "conditions": [
            condition("Available", "False", "NotServing", "no istiod pod is available"),
            condition("Ready", "Unknown", "WaitingForRollout", message),
            condition("Reconciling", "True", "WaitingForRollout", message),
        ],
        "version": {"desired": "1.31", "resolved": "1.31.2"},
        "components": [{
            "name": "istiod", "namespace": "istio-system", "version": "1.31.2", "ready": 0, "desired": 1,
            "message": "container discovery: ImagePullBackOff",
        }],
        "gateways": [{"name": "istio-ingressgateway", "namespace": "istio-system", "ready": false}],
    }))
}
