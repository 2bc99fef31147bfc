//! What came of a stage that was disturbed. Pure.

use std::collections::BTreeMap;

use super::gate::Write;
use super::stage::Stage;

/// So many writes of the mesh's objects more than undisturbed may a killed operator cost: none that was carried out is
/// repeated, since the next one reads the marks; what it may do twice is what an answer would have told it, such as a
/// delete that is under way.
pub const MORE_WRITES: usize = 2;

/// What came of a stage that was disturbed after so many writes.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Which.
    pub stage: Stage,
    /// How many writes were let through.
    pub writes: usize,
    /// Whether the operator came that far.
    pub reached: bool,
    /// What is not as it is undisturbed.
    pub differences: Vec<String>,
    /// Writes of the mesh's objects, undisturbed and now.
    pub of_mesh: (usize, usize),
    /// What was written more often than undisturbed.
    pub more: Vec<String>,
    /// The end of the operator's log, where something is wrong.
    pub log: String,
}

impl Verdict {
    /// Whether all is as it should be. Where the spec changed, there is nothing to hold the number of writes against.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let (undisturbed, now) = self.of_mesh;
        let bounded = self.stage.changes_to().is_some() || now <= undisturbed + MORE_WRITES;
        self.differences.is_empty() && bounded
    }

    /// All that a person asks for when it is not.
    #[must_use]
    pub fn report(&self) -> String {
        let (undisturbed, now) = self.of_mesh;
        format!(
            "{} disturbed after {} writes: {} differences\n  {}\nwrites of the mesh's objects: {now}, undisturbed \
             {undisturbed}; more often:\n  {}\nthe operator's log:\n{}",
            self.stage.name(),
            self.writes,
            self.differences.len(),
            self.differences.join("\n  "),
            self.more.join("\n  "),
            self.log
        )
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (undisturbed, now) = self.of_mesh;
        let far = if self.reached { "" } else { ", which it didn't come to" };
        let well = if self.is_good() { "well" } else { "NOT WELL" };
        write!(f, "{}, after {} writes{far}: {well}; {now} writes of objects", self.stage.name(), self.writes)?;
        match self.stage.changes_to() {
            Some(_) => Ok(()),
            None if now > undisturbed => write!(f, ", undisturbed {undisturbed}: {}", self.more.join(", ")),
            None => write!(f, ", undisturbed {undisturbed}"),
        }
    }
}

/// The writes of the mesh's objects among these.
pub(super) fn of_mesh(writes: &[Write]) -> impl Iterator<Item = &str> {
    writes.iter().filter(|write| write.of_mesh).map(|write| write.request.as_str())
}

/// What is there more often than before, with how often more.
pub(super) fn more(before: &[Write], now: &[Write]) -> Vec<String> {
    let mut counts: BTreeMap<&str, isize> = BTreeMap::new();
    of_mesh(now).for_each(|request| *counts.entry(request).or_default() += 1);
    of_mesh(before).for_each(|request| *counts.entry(request).or_default() -= 1);
    counts.into_iter().filter(|(_, count)| *count > 0).map(|(request, count)| format!("{count} x {request}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_more_often_is_told() {
        let write = |request: &str, of_mesh| Write { request: request.to_owned(), of_mesh };
        let before = [write("PATCH a", true), write("PATCH b", true)];
        let now = [write("PATCH b", true), write("PATCH b", true), write("PATCH status", false)];
        assert_eq!(more(&before, &now), ["1 x PATCH b"]);
    }
}
