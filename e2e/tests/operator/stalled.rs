//! Assertions about the Stalled condition.

use meshwright_api::conditions::ConditionType;
use meshwright_e2e::TestResult;
use meshwright_e2e::mesh::{Mesh, NAME};
use serde_json::Value;

/// Applies an invalid spec; checks the reason and that the message contains all `words`.
pub async fn assert_stalls(mesh: &Mesh, spec: Value, reason: &str, words: &[&str]) -> TestResult {
    mesh.apply(NAME, spec).await?;
    wait_stalled(mesh, NAME, reason, words).await
}

/// Waits until an installation is Stalled with this reason; checks that the message contains all `words`.
pub async fn wait_stalled(mesh: &Mesh, name: &str, reason: &str, words: &[&str]) -> TestResult {
    let stalled = mesh.wait_for(name, ConditionType::Stalled, "True", Some(reason)).await?;
    let message = stalled.status.and_then(|status| status.message).unwrap_or_default();
    for word in words {
        assert!(message.contains(word), "{word:?} is missing in: {message}");
    }
    Ok(())
}
