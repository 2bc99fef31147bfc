//! Tests with Istio's charts. `MESHWRIGHT_CATALOG` names the catalog that contains them; the tests fail without it, so
//! that they are not skipped unnoticed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation ends the run"
)]

mod cni_ztunnel;
mod decode_oracle;
mod field_effects;
mod fields;
mod gateways;
mod injector_values;
mod platforms;
mod rbac;
mod rendering;
mod text_fields;
mod user_values;
