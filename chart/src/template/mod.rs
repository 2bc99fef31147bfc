//! Go's `text/template`: text to tokens, tokens to a tree, a tree and values to text. Pure.

pub mod ast;
pub mod eval;
pub mod frame;
mod lexer;
mod parser;
mod text;

pub use parser::parse;

/// What is wrong with the text of a template, and in which line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    pub line: u32,
    pub kind: SyntaxErrorKind,
}

/// The two ways in which a template can't be parsed.
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
