//! The rules that a bundle is judged by, each by itself, with where it is from:
//!
//! - the validators of `github.com/operator-framework/api` (`pkg/validation`): `operator-sdk bundle validate` with the
//!   suite `operatorframework`, which the community's pipeline runs, and the tests of its scorecard;
//! - `opm alpha bundle validate` of `github.com/operator-framework/operator-registry`, which builds catalogs;
//! - the static checks of the community's pipeline (`redhat-openshift-ecosystem/operator-pipelines`, `docs/users/static_checks.md`)
//!   and its list of required fields;
//! - what OLM v1 supports (`operator-framework/operator-controller`, `docs/project/olmv1_limitations.md`);
//! - our own.
//!
//! Those programs are not run here: the rules are written down anew from what they document, and each has a test that
//! shows the bundle which it refuses. Pure.

mod contents;
mod csv;
mod hub;
mod olm_v1;
mod rights;
mod shown;
#[cfg(test)]
mod tests;

use std::fmt;

use super::Bundle;

/// What follows from a breach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The bundle isn't taken.
    Error,
    /// It is taken, and reviewers ask why.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// Whose rule it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The validators of the Operator Framework's API, and its scorecard.
    Framework,
    /// The catalog's builder.
    Registry,
    /// The community's pipeline.
    Community,
    /// OLM v1.
    OlmV1,
    /// Our own.
    Own,
}

/// One rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// Whose it is.
    pub origin: Origin,
    /// What follows from a breach.
    pub severity: Severity,
    /// What is wrong, each in a sentence.
    check: fn(&Bundle) -> Vec<String>,
}

impl Rule {
    const fn error(name: &'static str, origin: Origin, check: fn(&Bundle) -> Vec<String>) -> Self {
        Self { name, origin, severity: Severity::Error, check }
    }

    const fn warning(name: &'static str, origin: Origin, check: fn(&Bundle) -> Vec<String>) -> Self {
        Self { name, origin, severity: Severity::Warning, check }
    }
}

/// A breach of a rule.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}: {} ({})", self.rule.severity, self.message, self.rule.name)
    }
}

/// All rules.
pub fn all() -> impl Iterator<Item = Rule> {
    [csv::RULES, hub::RULES, contents::RULES, rights::RULES, olm_v1::RULES, shown::RULES].into_iter().flatten().copied()
}

/// Every breach of every rule.
#[must_use]
pub fn judge(bundle: &Bundle) -> Vec<Finding> {
    all().flat_map(|rule| (rule.check)(bundle).into_iter().map(move |message| Finding { rule, message })).collect()
}

/// A sentence, unless all is well.
fn unless(well: bool, sentence: impl FnOnce() -> String) -> Vec<String> {
    if well { Vec::new() } else { vec![sentence()] }
}
