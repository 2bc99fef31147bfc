//! The validation rules for bundles, by origin:
//!
//! - the validators of `github.com/operator-framework/api` (`pkg/validation`): `operator-sdk bundle validate` with the
//!   suite `operatorframework`, which the community's pipeline runs, and the tests of its scorecard;
//! - `opm alpha bundle validate` of `github.com/operator-framework/operator-registry`, which builds catalogs;
//! - the static checks of the community's pipeline (`redhat-openshift-ecosystem/operator-pipelines`,
//!   `docs/users/static_checks.md`) and its list of required fields;
//! - what OLM v1 supports (`operator-framework/operator-controller`, `docs/project/olmv1_limitations.md`);
//! - Meshwright's own rules.
//!
//! These programs are not run: the rules are reimplemented from their documentation, and each has a test with a bundle
//! that violates it. Pure.

mod contents;
mod csv;
mod descriptors;
mod hub;
mod olm_v1;
mod permissions;
#[cfg(test)]
mod tests;

use std::fmt;

use super::Bundle;

/// The severity of a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Catalogs reject the bundle.
    Error,
    /// Catalogs accept the bundle; reviewers may ask for the reason.
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

/// The origin of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleOrigin {
    /// The validators of the Operator Framework's API, and its scorecard.
    Framework,
    /// `opm`, which builds catalogs.
    Registry,
    /// The community's pipeline.
    Community,
    /// The supported features of OLM v1.
    OlmV1,
    /// Meshwright's own rule.
    Own,
}

/// A validation rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The rule's name.
    pub name: &'static str,
    /// The rule's origin.
    pub origin: RuleOrigin,
    /// The severity of violations.
    pub severity: Severity,
    /// Returns one sentence per violation.
    check: fn(&Bundle) -> Vec<String>,
}

impl Rule {
    const fn error(name: &'static str, origin: RuleOrigin, check: fn(&Bundle) -> Vec<String>) -> Self {
        Self { name, origin, severity: Severity::Error, check }
    }

    const fn warning(name: &'static str, origin: RuleOrigin, check: fn(&Bundle) -> Vec<String>) -> Self {
        Self { name, origin, severity: Severity::Warning, check }
    }
}

/// A violation of a rule.
#[derive(Clone, Debug)]
pub struct RuleViolation {
    /// The violated rule.
    pub rule: Rule,
    /// The violation, in one sentence.
    pub message: String,
}

impl fmt::Display for RuleViolation {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}: {} ({})", self.rule.severity, self.message, self.rule.name)
    }
}

/// Returns all rules.
pub fn all_rules() -> impl Iterator<Item = Rule> {
    [csv::RULES, hub::RULES, contents::RULES, permissions::RULES, olm_v1::RULES, descriptors::RULES]
        .into_iter()
        .flatten()
        .copied()
}

/// Returns all violations of all rules.
#[must_use]
pub fn validate(bundle: &Bundle) -> Vec<RuleViolation> {
    all_rules()
        .flat_map(|rule| (rule.check)(bundle).into_iter().map(move |message| RuleViolation { rule, message }))
        .collect()
}

/// Returns the message as a violation if a condition is not met.
fn violation_unless(condition: bool, message: impl FnOnce() -> String) -> Vec<String> {
    if condition { Vec::new() } else { vec![message()] }
}
