//! The syntax tree of a template. Owns its text, so that a chart doesn't keep its sources.

use std::sync::Arc;

use crate::functions::Function;

/// A named template: a file of the chart, or a `define` in a file.
#[derive(Debug)]
pub struct Template {
    pub name: Arc<str>,
    pub body: Block,
}

impl Template {
    /// Whether it is blank; a blank definition never replaces another one.
    pub fn is_blank(&self) -> bool {
        self.body.iter().all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()))
    }
}

/// The nodes of a template or a branch.
pub type Block = Box<[Node]>;

#[derive(Debug)]
pub enum Node {
    Text(Box<str>),
    Action(Pipeline),
    If { condition: Pipeline, then: Block, otherwise: Block },
    With { value: Pipeline, then: Block, otherwise: Block },
    Range { over: Pipeline, body: Block, otherwise: Block },
    Call { template: Arc<str>, argument: Option<Pipeline>, line: u32 },
    Break,
    Continue,
}

/// Commands, each of which passes its value to the next one as last argument.
#[derive(Debug)]
pub struct Pipeline {
    pub line: u32,
    pub variables: Box<[Arc<str>]>,
    /// Whether the variables are assigned with `=`, not declared with `:=`.
    pub assigns: bool,
    pub commands: Box<[Command]>,
}

#[derive(Debug)]
pub struct Command {
    pub head: Expr,
    pub arguments: Box<[Expr]>,
}

#[derive(Debug)]
pub enum Expr {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<str>),
    Field(Box<[Arc<str>]>),
    /// A variable, with its dollar sign, and a chain of fields.
    Variable(Arc<str>, Box<[Arc<str>]>),
    Group(Box<Pipeline>),
    /// Fields of a parenthesised pipeline or of a function's result.
    Chain(Box<Expr>, Box<[Arc<str>]>),
    Function(&'static Function),
}
