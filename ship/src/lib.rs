//! Builds release artifacts other than the operator itself.
//!
//! | module | purpose |
//! |---|---|
//! | [`bundle`] | the `OperatorHub` bundle, generated from `config/`, and the catalogs' validation rules |
//! | [`sbom`] | the software bill of materials, generated from cargo's metadata |
//!
//! Both are pure, except that `bundle::sources` reads files; `main` reads and writes files.

pub mod bundle;
pub mod sbom;
mod yaml;
