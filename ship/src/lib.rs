//! What a release ships beside the operator.
//!
//! | room | what for |
//! |---|---|
//! | [`bundle`] | the `OperatorHub` bundle, made from `config/`, and the rules that catalogs judge it by |
//! | [`sbom`] | the software bill of materials, made from what cargo knows |
//!
//! Both are pure, from texts to texts; `bundle::sources` reads files and `main` reads and writes them.

pub mod bundle;
pub mod sbom;
mod yaml;
