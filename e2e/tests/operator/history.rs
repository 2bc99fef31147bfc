//! `meshwright status --history`: which specs were accepted, what became of them, and what they changed.

use meshwright_e2e::mesh::{Mesh, NAME, VERSION, demo_spec};
use meshwright_e2e::{LabOptions, run, wait};
use serde_json::{Value, json};

use crate::cli::meshwright;

#[test]
fn history_lists_accepted_specs_with_verdicts() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install(lab).await?;
        let mut louder = demo_spec();
        louder["meshConfig"] = json!({"accessLogFile": "/dev/stderr"});
        mesh.apply(NAME, louder).await?;
        mesh.wait_ready(NAME).await?;
        // Its verdict is written a moment after status.
        let history = wait::until(wait::TIMEOUT, "the second revision to be deployed", async || {
            let args = ["status", NAME, "--history", "-o", "json"];
            let output = meshwright(lab.kubeconfig(), &args).await.map_err(|error| error.to_string())?;
            let status: Value =
                serde_json::from_str(&output.stdout).map_err(|error| format!("{error}: {}", output.stderr))?;
            let history = status["installations"][0]["history"].clone();
            if output.code == Some(0) && history[1]["verdict"] == "deployed" {
                Ok(history)
            } else {
                Err(status.to_string())
            }
        })
        .await?;
        assert_eq!(history.as_array().map(Vec::len), Some(2));
        assert_eq!((&history[0]["verdict"], &history[0]["changes"]), (&json!("superseded"), &json!([])));
        assert_eq!((&history[0]["version"], &history[1]["number"]), (&json!(VERSION), &json!(2)));
        let change = json!([{"path": "spec.meshConfig", "action": "Added", "new": {"accessLogFile": "/dev/stderr"}}]);
        assert_eq!(history[1]["changes"], change);
        let text = meshwright(lab.kubeconfig(), &["status", "--history"]).await?;
        assert!(
            text.code == Some(0) && text.stdout.contains("deployed\n      + spec.meshConfig: "),
            "{}{}",
            text.stdout,
            text.stderr
        );
        Ok(())
    });
}
