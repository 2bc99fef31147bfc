//! One execution of one template: its variables, and where it is.

use std::{cell::Cell, sync::Arc};

use crate::{budget::Stop, value::Value};

/// Where evaluation stopped, and why.
#[derive(Debug)]
pub struct Stopped {
    pub template: Arc<str>,
    pub line: u32,
    pub stop: Stop,
}

/// What evaluation gives, or where it stopped.
pub type Eval<T> = Result<T, Stopped>;

/// One execution of one template: its variables and the line it is at.
pub struct Frame {
    pub template: Arc<str>,
    pub line: Cell<u32>,
    pub variables: Vec<(Arc<str>, Value)>,
}

impl Frame {
    pub fn new(template: &Arc<str>, data: &Value) -> Self {
        let variables = vec![("$".into(), data.clone())];
        Self { template: template.clone(), line: Cell::new(1), variables }
    }

    pub fn stopped(&self, stop: Stop) -> Stopped {
        Stopped { template: self.template.clone(), line: self.line.get(), stop }
    }

    pub fn fail<T>(&self, message: impl Into<String>) -> Eval<T> {
        Err(self.stopped(Stop::failed(message)))
    }

    pub fn variable(&self, name: &str) -> Value {
        self.variables
            .iter()
            .rev()
            .find(|(known, _)| **known == *name)
            .map(|(_, value)| value.clone())
            .unwrap_or_default()
    }

    pub fn bind(&mut self, name: &Arc<str>, value: Value, assigns: bool) {
        let known = self.variables.iter_mut().rev().find(|(known, _)| assigns && known == name);
        match known {
            Some((_, slot)) => *slot = value,
            None => self.variables.push((name.clone(), value)),
        }
    }
}
