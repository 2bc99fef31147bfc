//! Moves that aren't made: nothing is written, and the mesh stays as it is.

use meshwright_e2e::mesh::{LAB_1_31, LAB_1_32, NAME, operator_writes};
use meshwright_e2e::{LabOptions, run};
use serde_json::json;

use super::{Scene, spec};

#[test]
fn a_downgrade_is_refused_before_anything_is_written_unless_it_is_allowed() {
    run(LabOptions::default().audited(), async |lab| {
        let scene = Scene::begin(lab, spec(LAB_1_32)).await?;
        let mark = lab.settled_audit().await?.mark();
        scene.mesh.apply(NAME, spec(LAB_1_31)).await?;
        let refused = scene.comes_to("False", "UpgradeRefused").await?;
        let said = refused.status.unwrap_or_default().message.unwrap_or_default();
        assert!(said.contains("Downgrade"), "the way out is named: {said}");
        let writes = operator_writes(&lab.settled_audit().await?, mark);
        assert!(writes.iter().all(|write| write.contains("meshinstallations/status")), "{writes:#?}");

        let mut allowed = spec(LAB_1_31);
        allowed["upgrade"]["allow"] = json!(["Downgrade"]);
        scene.mesh.apply(NAME, allowed).await?;
        scene.comes_to("True", "Healthy").await?;
        Ok(())
    });
}
