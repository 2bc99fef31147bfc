//! What the operator tells Prometheus of itself and of its installations.

use http::Request;
use kube::api::DeleteParams;
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, small};
use meshwright_e2e::{LabOptions, TestResult, run, wait};
use serde_json::json;

use crate::stalling::stalls;

/// The metrics of the operator that leads, through the API server.
async fn metrics(mesh: &Mesh) -> TestResult<String> {
    let leader = mesh.leader().await?;
    let path = format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{leader}:8080/proxy/metrics");
    Ok(mesh.client().request_text(Request::get(path).body(Vec::new())?).await?)
}

#[test]
fn the_conditions_of_an_installation_are_told_while_it_is_there() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        let mut spec = small();
        spec["version"] = json!("9.9.9");
        stalls(&mesh, spec, "VersionNotInCatalog", &[]).await?;
        let condition = |type_: &str, status: &str| {
            format!(
                r#"meshwright_installation_condition{{installation="{NAME}",type="{type_}",status="{status}",reason="VersionNotInCatalog"}} 1"#
            )
        };
        let told = metrics(&mesh).await?;
        for line in [condition("Stalled", "True"), condition("Ready", "False")] {
            assert!(told.lines().any(|found| found == line), "{line} is missing in\n{told}");
        }
        mesh.delete(NAME, &DeleteParams::default()).await?;
        mesh.wait_gone(NAME).await?;
        wait::until(wait::PATIENCE, "no condition to be told", async || {
            let told = metrics(&mesh).await.map_err(|error| error.to_string())?;
            let left = told.lines().find(|line| line.starts_with("meshwright_installation_condition{"));
            left.map_or(Ok(()), |line| Err(line.to_owned()))
        })
        .await?;
        Ok(())
    });
}
