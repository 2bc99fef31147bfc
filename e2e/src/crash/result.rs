//! Results of interrupted stages.

use std::collections::BTreeMap;

use super::gate::CompletedWrite;
use super::stage::Stage;

/// Maximum number of additional writes to objects of the mesh after a crash. The restarted operator recognises executed
/// writes by their ownership metadata; it may only repeat requests whose response was lost, such as a pending delete.
pub const MAX_EXTRA_WRITES: usize = 2;

/// Result of a stage that was interrupted after a number of writes.
#[derive(Debug, Clone)]
pub struct CrashResult {
    /// The interrupted stage.
    pub stage: Stage,
    /// Write limit of the interruption.
    pub writes: usize,
    /// Whether the operator reached the limit.
    pub reached: bool,
    /// Differences to the expected cluster state.
    pub differences: Vec<String>,
    /// Writes to objects of the mesh: uninterrupted, and in this run.
    pub mesh_writes: (usize, usize),
    /// Requests that were sent more often than in the uninterrupted run.
    pub extra_writes: Vec<String>,
    /// Last lines of the operator's log, if there are differences.
    pub log: String,
}

impl CrashResult {
    /// Whether the cluster state and the number of writes are as expected. Writes aren't limited if the spec changed.
    #[must_use]
    pub fn passed(&self) -> bool {
        let (baseline, actual) = self.mesh_writes;
        let bounded = self.stage.changed_spec().is_some() || actual <= baseline + MAX_EXTRA_WRITES;
        self.differences.is_empty() && bounded
    }

    /// Details of a failure.
    #[must_use]
    pub fn report(&self) -> String {
        let (baseline, actual) = self.mesh_writes;
        format!(
            "{} interrupted after {} writes: {} differences\n  {}\nwrites to objects of the mesh: {actual}, uninterrupted \
             {baseline}; additional writes:\n  {}\noperator log:\n{}",
            self.stage.name(),
            self.writes,
            self.differences.len(),
            self.differences.join("\n  "),
            self.extra_writes.join("\n  "),
            self.log
        )
    }
}

impl std::fmt::Display for CrashResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (baseline, actual) = self.mesh_writes;
        let reached = if self.reached { "" } else { " (not reached)" };
        let passed = if self.passed() { "passed" } else { "FAILED" };
        write!(f, "{}, after {} writes{reached}: {passed}; {actual} object writes", self.stage.name(), self.writes)?;
        match self.stage.changed_spec() {
            Some(_) => Ok(()),
            None if actual > baseline => write!(f, ", uninterrupted {baseline}: {}", self.extra_writes.join(", ")),
            None => write!(f, ", uninterrupted {baseline}"),
        }
    }
}

/// Requests to objects of the mesh.
pub(super) fn mesh_writes(writes: &[CompletedWrite]) -> impl Iterator<Item = &str> {
    writes.iter().filter(|write| write.mesh_object).map(|write| write.request.as_str())
}

/// Requests that `actual` contains more often than `baseline`, with the difference.
pub(super) fn extra_writes(baseline: &[CompletedWrite], actual: &[CompletedWrite]) -> Vec<String> {
    let mut counts: BTreeMap<&str, isize> = BTreeMap::new();
    mesh_writes(actual).for_each(|request| *counts.entry(request).or_default() += 1);
    mesh_writes(baseline).for_each(|request| *counts.entry(request).or_default() -= 1);
    counts.into_iter().filter(|(_, count)| *count > 0).map(|(request, count)| format!("{count} x {request}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_only_additional_writes() {
        let write = |request: &str, mesh_object| CompletedWrite { request: request.to_owned(), mesh_object };
        let baseline = [write("PATCH a", true), write("PATCH b", true)];
        let actual = [write("PATCH b", true), write("PATCH b", true), write("PATCH status", false)];
        assert_eq!(extra_writes(&baseline, &actual), ["1 x PATCH b"]);
    }
}
