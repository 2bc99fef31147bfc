//! Go's `text/template`: lexer, parser and evaluator. Pure.

pub mod ast;
pub mod eval;
pub mod frame;
mod lexer;
mod parser;
mod text;

pub use parser::parse;

/// A syntax error in a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    pub line: u32,
    pub kind: SyntaxErrorKind,
}

/// The kind of a syntax error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxErrorKind {
    #[error("function {0:?} is not defined")]
    UnknownFunction(String),
    #[error("{0}")]
    Malformed(String),
}

impl SyntaxError {
    fn malformed(line: u32, message: impl Into<String>) -> Self {
        Self { line, kind: SyntaxErrorKind::Malformed(message.into()) }
    }
}
