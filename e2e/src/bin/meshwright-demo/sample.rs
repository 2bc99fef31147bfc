//! Samples in config/samples.

use meshwright_e2e::{Lab, TestResult};

use super::Tools;

/// Name of the MeshInstallation in config/samples/demo.yaml.
pub(crate) const NAME: &str = "demo";

/// Applies a file in config/samples.
pub(crate) async fn apply(lab: &Lab, tools: &Tools, sample: &str) -> TestResult {
    let path = tools.config.join("samples").join(sample);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    lab.apply_yaml(&format!("config/samples/{sample}"), &text).await?;
    Ok(())
}
