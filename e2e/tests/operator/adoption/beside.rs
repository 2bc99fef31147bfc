//! Two control planes that Helm installed, one with node agents, one with a revision and tags: each becomes an installation.

use meshwright_e2e::mesh::{Mesh, NAME};
use meshwright_e2e::{Lab, LabOptions, TestResult, objects, run};
use serde_json::{Value, json};

use super::{MESH, adopt, install, managers, pods, tool};

const CANARY: &str = "canary";

/// An ambient mesh as Istio's documents have it, where ztunnel's chart is not given the profile; and a canary beside it,
/// with a tag of its chart's by which its gateway asks for it, and one of istioctl's.
async fn by_helm(lab: &Lab) -> TestResult {
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
    Mesh::of(lab.client()).wait_strict().await?;
    Ok(())
}

async fn take_over(lab: &Lab, mesh: &Mesh, name: &str, revision: &str) -> TestResult<Value> {
    let (ran, spec) = adopt(lab, name, &["--revision", revision]).await?;
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(!ran.err.contains("left:"), "{}", ran.err);
    mesh.apply(name, spec.clone()).await?;
    mesh.wait_ready(name).await?;
    Ok(spec)
}

#[test]
fn an_ambient_mesh_and_a_revision_with_tags_become_two_installations_without_a_restart() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        by_helm(lab).await?;
        let before = pods(lab).await?;
        let ambient = take_over(lab, &mesh, NAME, "default").await?;
        assert_eq!((&ambient["cni"]["mode"], &ambient["ztunnel"]["mode"]), (&json!("Enabled"), &json!("Enabled")));
        let canary = take_over(lab, &mesh, CANARY, CANARY).await?;
        assert_eq!(canary["tags"], json!([{"name": "prod"}, {"name": "staging"}]));
        assert_eq!(canary["gateways"][0]["name"], "edge");
        mesh.wait_ready(NAME).await?;
        assert_eq!(pods(lab).await?, before, "no Pod was replaced or restarted");
        let agents = mesh.api("apps/v1", "DaemonSet", Some(MESH));
        for agent in ["istio-cni-node", "ztunnel"] {
            let managers = managers(&agents.get(agent).await?);
            assert!(!managers.contains(&"helm".to_owned()), "{agent}: {managers:?}");
        }
        let tags = mesh.api("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", None);
        let managers = managers(&tags.get("istio-revision-tag-staging").await?);
        assert!(managers.contains(&"meshwright".to_owned()), "{managers:?}");
        Ok(())
    });
}
