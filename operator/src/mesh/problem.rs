//! What is wrong with a spec, said so that a person can put it right.

use std::fmt;

/// One thing that is wrong: the field, and what about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field, as a path in the resource. Example: `spec.values.istiod.revision`.
    pub field: String,
    /// The value, and what would be right.
    pub message: String,
}

impl Problem {
    /// A problem of a field.
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

/// Problems in one sentence.
#[must_use]
pub fn sentence(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
