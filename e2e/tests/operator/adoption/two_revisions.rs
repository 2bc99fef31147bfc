//! Adoption of two control planes that Helm installed: an ambient mesh, and a revision with tags.

use meshwright_e2e::mesh::{Mesh, NAME};
use meshwright_e2e::{Lab, LabOptions, TestResult, objects, run};
use serde_json::{Value, json};

use super::{MESH, adopt, install, managers, pods, tool};

const CANARY: &str = "canary";

/// Installs an ambient mesh as in Istio's documentation, without the profile for ztunnel's chart, and a canary revision
/// with a tag from its chart, which its gateway uses, and a tag from istioctl.
async fn install_with_helm(lab: &Lab) -> TestResult {
    let ambient = json!({"profile": "ambient"});
    install(lab, "istio-base", "base", &json!({})).await?;
    install(lab, "istio-cni", "cni", &ambient).await?;
    install(lab, "istiod", "istiod", &json!({"profile": "ambient", "env": {"PILOT_PUSH_THROTTLE": 50}})).await?;
    install(lab, "ztunnel", "ztunnel", &json!({"resources": {"requests": {"cpu": "20m", "memory": "100Mi"}}})).await?;
    let canary = json!({"revision": CANARY, "revisionTags": ["prod"], "cni": {"enabled": true}, "traceSampling": 5});
    install(lab, "istiod-canary", "istiod", &canary).await?;
    for istiod in ["istiod", "istiod-canary"] {
        objects::deployment_ready(&lab.client(), MESH, istiod).await?;
    }
    let gateway = json!({"revision": "prod", "service": {"type": "ClusterIP"}});
    install(lab, "edge", "gateway", &gateway).await?;
    objects::deployment_ready(&lab.client(), MESH, "edge").await?;
    tool(lab, "istioctl", &["tag", "set", "staging", "--revision", CANARY, "--skip-confirmation"]).await?;
    Mesh::connect(lab.client()).wait_fail_closed().await?;
    Ok(())
}

async fn adopt_and_apply(lab: &Lab, mesh: &Mesh, name: &str, revision: &str) -> TestResult<Value> {
    let (output, spec) = adopt(lab, name, &["--revision", revision]).await?;
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    assert!(!output.stderr.contains("not adopted:"), "{}", output.stderr);
    mesh.apply(name, spec.clone()).await?;
    mesh.wait_ready(name).await?;
    Ok(spec)
}

#[test]
fn adopts_two_revisions_as_separate_installations() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        install_with_helm(lab).await?;
        let before = pods(lab).await?;
        let ambient = adopt_and_apply(lab, &mesh, NAME, "default").await?;
        assert_eq!((&ambient["cni"]["mode"], &ambient["ztunnel"]["mode"]), (&json!("Enabled"), &json!("Enabled")));
        let canary = adopt_and_apply(lab, &mesh, CANARY, CANARY).await?;
        assert_eq!(canary["tags"], json!([{"name": "prod"}, {"name": "staging"}]));
        assert_eq!(canary["gateways"][0]["name"], "edge");
        mesh.wait_ready(NAME).await?;
        assert_eq!(pods(lab).await?, before, "no Pod should be replaced or restarted");
        let daemon_sets = mesh.api("apps/v1", "DaemonSet", Some(MESH));
        for name in ["istio-cni-node", "ztunnel"] {
            let managers = managers(&daemon_sets.get(name).await?);
            assert!(!managers.contains(&"helm".to_owned()), "{name}: {managers:?}");
        }
        let tags = mesh.api("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", None);
        let managers = managers(&tags.get("istio-revision-tag-staging").await?);
        assert!(managers.contains(&"meshwright".to_owned()), "{managers:?}");
        Ok(())
    });
}
