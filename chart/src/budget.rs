//! What one render may use. Steps stand in for a deadline, so that the result never depends on a clock.

use std::cell::Cell;

use crate::Limits;

/// How deep templates, blocks and nested values may go; the stack of a worker thread holds it with room to spare.
const MAX_DEPTH: usize = 200;

/// Why evaluation ended early, before it is known where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// A template used a value in a way that Go would refuse.
    Failed(String),
    /// The chart itself said no, by `fail` or `required`.
    Refused(String),
    Steps,
    Output,
    Depth,
}

impl Stop {
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }
}

/// The steps, depth and bytes that remain.
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

    /// Takes steps, or stops when too few are left.
    pub fn spend(&self, steps: u64) -> Result<(), Stop> {
        let left = self.steps.get().checked_sub(steps).ok_or(Stop::Steps)?;
        self.steps.set(left);
        Ok(())
    }

    /// Refuses a text longer than all output may be.
    pub fn fits(&self, bytes: usize) -> Result<(), Stop> {
        if bytes <= self.max_bytes { Ok(()) } else { Err(Stop::Output) }
    }

    /// Goes one level deeper until the guard is dropped.
    pub fn enter(&self) -> Result<Level<'_>, Stop> {
        let depth = self.depth.get() + 1;
        if depth > MAX_DEPTH {
            return Err(Stop::Depth);
        }
        self.depth.set(depth);
        Ok(Level(&self.depth))
    }
}

/// One level of depth, given back on drop.
pub struct Level<'b>(&'b Cell<usize>);

impl Drop for Level<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
