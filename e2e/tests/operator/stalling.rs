//! Specs that can't be followed: they are told with a reason, and in words that name what is wrong.

use meshwright_api::conditions::ConditionType;
use meshwright_e2e::TestResult;
use meshwright_e2e::mesh::{Mesh, NAME};
use serde_json::Value;

/// Applies a spec that can't be followed; checks the reason and that the message says all of `words`.
pub async fn stalls(mesh: &Mesh, spec: Value, reason: &str, words: &[&str]) -> TestResult {
    mesh.apply(NAME, spec).await?;
    stalled(mesh, NAME, reason, words).await
}

/// Waits until an installation stalls for this reason, and checks that the message says all of `words`.
pub async fn stalled(mesh: &Mesh, name: &str, reason: &str, words: &[&str]) -> TestResult {
    let stalled = mesh.wait_for(name, ConditionType::Stalled, "True", Some(reason)).await?;
    let message = stalled.status.and_then(|status| status.message).unwrap_or_default();
    for word in words {
        assert!(message.contains(word), "{word:?} is missing in: {message}");
    }
    Ok(())
}
