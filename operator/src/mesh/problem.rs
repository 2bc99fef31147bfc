//! Validation errors of a spec.

use std::fmt;

/// A field of the spec and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field, as a path in the resource. Example: `spec.values.istiod.revision`.
    pub field: String,
    /// What is wrong with the value, and which values are valid.
    pub message: String,
}

impl Problem {
    /// A problem with the given field.
    #[must_use]
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// All problems in one line, separated by semicolons.
#[must_use]
pub fn sentence(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
