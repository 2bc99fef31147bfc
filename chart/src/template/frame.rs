//! The stack frame of a template call.

use std::{cell::Cell, sync::Arc};

use crate::{budget::EvalError, value::Value};

/// An evaluation error with its location.
#[derive(Debug)]
pub struct LocatedError {
    pub template: Arc<str>,
    pub line: u32,
    pub error: EvalError,
}

/// The result of evaluation.
pub type Eval<T> = Result<T, LocatedError>;

/// A template call: its variables and current line.
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

    pub fn locate(&self, error: EvalError) -> LocatedError {
        LocatedError { template: self.template.clone(), line: self.line.get(), error }
    }

    pub fn fail<T>(&self, message: impl Into<String>) -> Eval<T> {
        Err(self.locate(EvalError::failed(message)))
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
