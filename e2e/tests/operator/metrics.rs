//! Metrics of the operator and its installations.

use http::Request;
use kube::api::DeleteParams;
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, demo_spec};
use meshwright_e2e::{LabOptions, TestResult, run, wait};
use serde_json::json;

use crate::stalled::assert_stalls;

/// Reads the leader's metrics through the API server's proxy.
async fn metrics(mesh: &Mesh) -> TestResult<String> {
    let leader = mesh.leader().await?;
    let path = format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{leader}:8080/proxy/metrics");
    Ok(mesh.client().request_text(Request::get(path).body(Vec::new())?).await?)
}

#[test]
fn exports_conditions_of_existing_installations() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let mut spec = demo_spec();
        spec["version"] = json!("9.9.9");
        assert_stalls(&mesh, spec, "VersionNotInCatalog", &[]).await?;
        let condition = |type_: &str, status: &str| {
            format!(
                r#"meshwright_installation_condition{{installation="{NAME}",type="{type_}",status="{status}",reason="VersionNotInCatalog"}} 1"#
            )
        };
        let text = metrics(&mesh).await?;
        for line in [condition("Stalled", "True"), condition("Ready", "False")] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        mesh.delete(NAME, &DeleteParams::default()).await?;
        mesh.wait_gone(NAME).await?;
        wait::until(wait::TIMEOUT, "the conditions to be removed", async || {
            let text = metrics(&mesh).await.map_err(|error| error.to_string())?;
            let left = text.lines().find(|line| line.starts_with("meshwright_installation_condition{"));
            left.map_or(Ok(()), |line| Err(line.to_owned()))
        })
        .await?;
        Ok(())
    });
}
