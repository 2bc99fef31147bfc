//! Holds the words of every tracked file against the project's language: the terms of Kubernetes, Helm and Istio, and no
//! others. Each test prints every finding with file, line and what to write instead.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation ends the run"
)]

mod names;
mod source;
mod terms;

use std::fmt::Write as _;

/// Fails with one line per finding.
fn assert_none(findings: &[String], rule: &str) {
    let mut list = String::new();
    for finding in findings {
        let _ = writeln!(list, "  {finding}");
    }
    assert!(findings.is_empty(), "{} findings; {rule}:\n{list}", findings.len());
}
