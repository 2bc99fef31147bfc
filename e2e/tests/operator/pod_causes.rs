//! Why pods don't start is reported on every path.

use meshwright_api::conditions::{ConditionType, get};
use meshwright_e2e::mesh::{LAB_1_32, Mesh, NAME, describe};
use meshwright_e2e::{Fault, LabOptions, run, wait};
use serde_json::json;

#[test]
fn first_install_reports_why_istiod_does_not_start() {
    run(LabOptions::default(), async |lab| {
        lab.inject_istiod_fault(LAB_1_32, Fault::NeverStarts)?;
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, json!({"version": LAB_1_32, "profile": "demo"})).await?;
        wait::until(wait::TIMEOUT, "the cause in the message of Ready", async || {
            let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let conditions = found.status.clone().unwrap_or_default().conditions;
            let ready = get(&conditions, ConditionType::Ready).map(|ready| ready.message.clone()).unwrap_or_default();
            if ready.contains("istiod") && ready.contains("ImagePullBackOff") { Ok(()) } else { Err(describe(&found)) }
        })
        .await?;
        lab.clear_istiod_fault(LAB_1_32)?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}
