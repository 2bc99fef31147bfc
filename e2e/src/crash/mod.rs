//! The operator, killed at any moment: it is let do exactly so many writes, loses its life (or its spec changes), and what
//! becomes of the mesh is compared with what becomes of it undisturbed.
//!
//! The operator runs as a process of its own, outside of Pods, and reaches the API server through a proxy that counts
//! what it writes. `gate.rs`, `requests.rs`, `stage.rs` and `verdict.rs` are pure, but for waiting; the rest does I/O.

mod end;
mod gate;
mod life;
mod operator;
mod proxy;
mod requests;
mod stage;
mod verdict;

pub use end::End;
pub use life::{Life, Undisturbed};
pub use stage::{Disturbance, Stage};
pub use verdict::{MORE_WRITES, Verdict};
