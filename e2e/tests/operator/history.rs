//! `meshwright status --history`: which specs were accepted, what became of them, and what they changed.

use meshwright_e2e::mesh::{Mesh, NAME, VERSION, small};
use meshwright_e2e::{LabOptions, run, wait};
use serde_json::{Value, json};

use crate::cli::meshwright;

#[test]
fn every_accepted_spec_is_in_the_history_with_what_became_of_it() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::ready(lab).await?;
        let mut louder = small();
        louder["meshConfig"] = json!({"accessLogFile": "/dev/stderr"});
        mesh.apply(NAME, louder).await?;
        mesh.wait_ready(NAME).await?;
        // Its verdict is written a moment after status.
        let history = wait::until(wait::PATIENCE, "the second spec to be proved", async || {
            let args = ["status", NAME, "--history", "-o", "json"];
            let ran = meshwright(lab.kubeconfig(), &args).await.map_err(|error| error.to_string())?;
            let shown: Value = serde_json::from_str(&ran.out).map_err(|error| format!("{error}: {}", ran.err))?;
            let history = shown["installations"][0]["history"].clone();
            if ran.code == Some(0) && history[1]["verdict"] == "proved" { Ok(history) } else { Err(shown.to_string()) }
        })
        .await?;
        assert_eq!(history.as_array().map(Vec::len), Some(2));
        assert_eq!((&history[0]["verdict"], &history[0]["changes"]), (&json!("superseded"), &json!([])));
        assert_eq!((&history[0]["version"], &history[1]["number"]), (&json!(VERSION), &json!(2)));
        let change = json!([{"path": "spec.meshConfig", "action": "Added", "new": {"accessLogFile": "/dev/stderr"}}]);
        assert_eq!(history[1]["changes"], change);
        let text = meshwright(lab.kubeconfig(), &["status", "--history"]).await?;
        assert!(
            text.code == Some(0) && text.out.contains("proved\n      + spec.meshConfig: "),
            "{}{}",
            text.out,
            text.err
        );
        Ok(())
    });
}
