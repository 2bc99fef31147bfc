//! What can only be tested with Istio's real charts. `MESHWRIGHT_CATALOG` names the catalog that they are in; without it
//! these tests fail, since one that is skipped proves nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation ends the run"
)]

mod fields;
mod node_agents;
mod platforms;
mod rendering;
mod rights;
mod rows;
mod texts;
