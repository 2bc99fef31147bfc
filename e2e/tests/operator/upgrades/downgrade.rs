//! Downgrades need permission in the spec.

use meshwright_e2e::mesh::{LAB_1_31, LAB_1_32, NAME, operator_writes};
use meshwright_e2e::{LabOptions, run};
use serde_json::json;

use super::{UpgradeTest, spec};

#[test]
fn downgrade_requires_permission_in_spec() {
    run(LabOptions::default().audited(), async |lab| {
        let test = UpgradeTest::start(lab, spec(LAB_1_32)).await?;
        let start = lab.settled_audit().await?.position();
        test.mesh.apply(NAME, spec(LAB_1_31)).await?;
        let rejected = test.wait_ready_condition("False", "UpgradeNotAllowed").await?;
        let message = rejected.status.unwrap_or_default().message.unwrap_or_default();
        assert!(message.contains("Downgrade"), "the message should name the remedy: {message}");
        let writes = operator_writes(&lab.settled_audit().await?, start);
        assert!(writes.iter().all(|write| write.contains("meshinstallations/status")), "{writes:#?}");

        let mut allowed = spec(LAB_1_31);
        allowed["upgrade"]["allow"] = json!(["Downgrade"]);
        test.mesh.apply(NAME, allowed).await?;
        test.wait_ready_condition("True", "Healthy").await?;
        Ok(())
    });
}
