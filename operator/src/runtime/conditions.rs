//! The metric `meshwright_installation_condition`. Each scrape reads the conditions from the watch cache, so a deleted
//! installation leaves no series behind.

use std::fmt;
use std::sync::{Arc, OnceLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::mesh::text::shorten;

/// The most bytes of a label: other clients may add conditions.
const MAX_LABEL: usize = 128;

/// Returns the name and the conditions of each installation.
pub type ConditionSource = Box<dyn Fn() -> Vec<(String, Vec<Condition>)> + Send + Sync>;

/// Collects the conditions of all installations. Clones share one source.
#[derive(Clone, Default)]
pub(super) struct ConditionCollector(Arc<OnceLock<ConditionSource>>);

impl ConditionCollector {
    /// Sets the source; calls after the first have no effect.
    pub(super) fn set_source(&self, source: ConditionSource) {
        self.0.get_or_init(|| source);
    }
}

impl fmt::Debug for ConditionCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConditionCollector").finish_non_exhaustive()
    }
}

impl Collector for ConditionCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(source) = self.0.get() else { return Ok(()) };
        let help = "Current status and reason of each condition of a MeshInstallation; the value is always 1";
        let mut family = encoder.encode_descriptor("installation_condition", help, None, MetricType::Gauge)?;
        for (installation, conditions) in source() {
            for Condition { mut type_, mut status, mut reason, .. } in conditions {
                for label in [&mut type_, &mut status, &mut reason] {
                    shorten(label, MAX_LABEL);
                }
                let labels = [
                    ("installation", installation.as_str()),
                    ("type", type_.as_str()),
                    ("status", status.as_str()),
                    ("reason", reason.as_str()),
                ];
                ConstGauge::new(1_i64).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;
    use crate::runtime::metrics::Metrics;

    fn condition(type_: &str, status: &str, reason: &str) -> Condition {
        let time = "2026-01-01T00:00:00Z";
        serde_json::from_value(json!({
            "type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": time,
        }))
        .unwrap()
    }

    #[test]
    fn drops_series_of_deleted_installations() {
        let metrics = Metrics::new();
        let lines = || -> Vec<String> {
            let text = metrics.encode().unwrap();
            let name = "meshwright_installation_condition{installation=";
            text.lines().filter_map(|line| line.strip_prefix(name)).map(str::to_owned).collect()
        };
        assert_eq!(lines(), Vec::<String>::new(), "a standby has no source");
        let now = Arc::new(Mutex::new(Vec::new()));
        let read = Arc::clone(&now);
        metrics.set_condition_source(Box::new(move || read.lock().unwrap().clone()));
        let b = ("b".to_owned(), vec![condition("Ready", "False", "RolledBack")]);
        *now.lock().unwrap() = vec![("a".to_owned(), vec![condition("Ready", "True", "Healthy")]), b.clone()];
        let of_b = r#""b",type="Ready",status="False",reason="RolledBack"} 1"#;
        assert_eq!(lines(), [r#""a",type="Ready",status="True",reason="Healthy"} 1"#, of_b]);
        *now.lock().unwrap() = vec![b];
        assert_eq!(lines(), [of_b]);
    }
}
