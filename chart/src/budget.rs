//! Limits of one render. Counts steps instead of time, so that the result never depends on a clock.

use std::cell::Cell;

use crate::Limits;

/// Maximum nesting of templates, blocks and values; fits easily on the stack of a worker thread.
const MAX_DEPTH: usize = 200;

/// An error of evaluation, without its location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvalError {
    /// An operation that is an error in Go's templates.
    Failed(String),
    /// An error raised by the chart, with `fail` or `required`.
    Rejected(String),
    Steps,
    Output,
    Depth,
}

impl EvalError {
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }
}

/// The remaining steps, depth and bytes.
#[derive(Debug)]
pub struct Budget {
    steps: Cell<u64>,
    depth: Cell<usize>,
    max_bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(&Limits::default())
    }
}

impl Budget {
    pub fn new(limits: &Limits) -> Self {
        Self { steps: Cell::new(limits.max_steps), depth: Cell::new(0), max_bytes: limits.max_output_bytes }
    }

    /// Consumes steps; fails if too few are left.
    pub fn spend(&self, steps: u64) -> Result<(), EvalError> {
        let left = self.steps.get().checked_sub(steps).ok_or(EvalError::Steps)?;
        self.steps.set(left);
        Ok(())
    }

    /// Fails if a text exceeds the output limit.
    pub fn fits(&self, bytes: usize) -> Result<(), EvalError> {
        if bytes <= self.max_bytes { Ok(()) } else { Err(EvalError::Output) }
    }

    /// Increases the depth until the guard is dropped.
    pub fn enter(&self) -> Result<DepthGuard<'_>, EvalError> {
        let depth = self.depth.get() + 1;
        if depth > MAX_DEPTH {
            return Err(EvalError::Depth);
        }
        self.depth.set(depth);
        Ok(DepthGuard(&self.depth))
    }
}

/// Decreases the depth on drop.
pub struct DepthGuard<'b>(&'b Cell<usize>);

impl Drop for DepthGuard<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
