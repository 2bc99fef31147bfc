//! Parses the templates of a file: the file itself and each `define` or `block` in it.

use std::sync::Arc;

use super::{
    SyntaxError, SyntaxErrorKind,
    ast::{Block, Command, Expr, Node, Pipeline, Template},
    lexer::{Token, TokenKind, lex},
    text::{unquote, unquote_char},
};
use crate::functions;

/// Maximum nesting of blocks and parentheses; checked here so that evaluation needs no check.
const MAX_NESTING: usize = 100;

/// Parses the templates of one file. The template of the file itself is first.
pub fn parse(name: &str, source: &str) -> Result<Vec<Template>, SyntaxError> {
    let tokens = lex(source)?;
    let mut parser =
        Parser { tokens: &tokens, at: 0, variables: vec!["$".into()], nesting: 0, loops: 0, defined: Vec::new() };
    let body = match parser.block(true)? {
        (body, BlockEnd::Eof) => body,
        (_, end) => return parser.error(format!("unexpected {}", end.word())),
    };
    let mut templates = vec![Template { name: name.into(), body }];
    templates.append(&mut parser.defined);
    Ok(templates)
}

/// The end of a block.
enum BlockEnd {
    Eof,
    End,
    Else,
    /// `else if` or `else with`; parsed up to the second word.
    ElseChain(&'static str),
}

impl BlockEnd {
    fn word(&self) -> &'static str {
        match self {
            Self::Eof => "end of file",
            Self::End => "{{end}}",
            Self::Else | Self::ElseChain(_) => "{{else}}",
        }
    }
}

struct Parser<'t, 's> {
    tokens: &'t [Token<'s>],
    at: usize,
    variables: Vec<Arc<str>>,
    nesting: usize,
    loops: usize,
    defined: Vec<Template>,
}

impl<'s> Parser<'_, 's> {
    fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |token| token.line)
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T, SyntaxError> {
        Err(SyntaxError::malformed(self.line(), message))
    }

    fn peek(&self) -> Option<Token<'s>> {
        self.tokens.get(self.at).copied()
    }

    fn peek_kind(&self) -> Option<TokenKind> {
        self.peek().map(|token| token.kind)
    }

    fn skip_space(&mut self) {
        while self.peek_kind() == Some(TokenKind::Space) {
            self.at += 1;
        }
    }

    fn take(&mut self, kind: TokenKind) -> Option<Token<'s>> {
        let token = self.peek().filter(|token| token.kind == kind)?;
        self.at += 1;
        Some(token)
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.kind == TokenKind::Word && token.text == word);
        self.at += usize::from(found);
        found
    }

    fn close(&mut self, after: &str) -> Result<(), SyntaxError> {
        self.skip_space();
        match self.take(TokenKind::Close) {
            Some(_) => Ok(()),
            None => self.unexpected(after),
        }
    }

    fn unexpected<T>(&self, context: &str) -> Result<T, SyntaxError> {
        match self.peek() {
            Some(token) => self.error(format!("unexpected {:?} in {context}", token.text)),
            None => self.error(format!("unexpected end of file in {context}")),
        }
    }

    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, SyntaxError>) -> Result<T, SyntaxError> {
        if self.nesting >= MAX_NESTING {
            return self.error(format!("nested deeper than {MAX_NESTING} levels"));
        }
        self.nesting += 1;
        let parsed = parse(self);
        self.nesting -= 1;
        parsed
    }

    /// Parses up to an `end`, an `else` or the end of the file. Only the outermost block may have a `define`.
    fn block(&mut self, outermost: bool) -> Result<(Block, BlockEnd), SyntaxError> {
        let mut nodes = Vec::new();
        loop {
            if let Some(text) = self.take(TokenKind::Text) {
                nodes.push(Node::Text(text.text.into()));
                continue;
            }
            if self.take(TokenKind::Open).is_none() {
                return Ok((nodes.into(), BlockEnd::Eof));
            }
            self.skip_space();
            if self.take_word("end") {
                self.close("end")?;
                return Ok((nodes.into(), BlockEnd::End));
            }
            if self.take_word("else") {
                self.skip_space();
                for word in ["if", "with"] {
                    if self.take_word(word) {
                        return Ok((nodes.into(), BlockEnd::ElseChain(word)));
                    }
                }
                self.close("else")?;
                return Ok((nodes.into(), BlockEnd::Else));
            }
            if self.take_word("define") {
                if !outermost {
                    return self.error("a define inside of a block");
                }
                self.define()?;
                continue;
            }
            nodes.push(self.action()?);
        }
    }

    fn action(&mut self) -> Result<Node, SyntaxError> {
        let line = self.line();
        if self.take_word("if") {
            return self.nested(|p| p.control("if"));
        }
        if self.take_word("with") {
            return self.nested(|p| p.control("with"));
        }
        if self.take_word("range") {
            return self.nested(|p| p.control("range"));
        }
        if self.take_word("template") {
            let template = self.name("template")?;
            self.skip_space();
            if self.take(TokenKind::Close).is_some() {
                return Ok(Node::Call { template, argument: None, line });
            }
            let argument = Some(self.pipeline("template", TokenKind::Close)?);
            return Ok(Node::Call { template, argument, line });
        }
        if self.take_word("block") {
            let template = self.name("block")?;
            let argument = Some(self.pipeline("block", TokenKind::Close)?);
            self.definition(template.clone())?;
            return Ok(Node::Call { template, argument, line });
        }
        for (word, node) in [("break", Node::Break), ("continue", Node::Continue)] {
            if self.take_word(word) {
                if self.loops == 0 {
                    return self.error(format!("{{{{{word}}}}} outside of a range"));
                }
                self.close(word)?;
                return Ok(node);
            }
        }
        Ok(Node::Action(self.pipeline("command", TokenKind::Close)?))
    }

    fn name(&mut self, context: &str) -> Result<Arc<str>, SyntaxError> {
        self.skip_space();
        match self.take(TokenKind::Quoted).and_then(|token| unquote(token.text)) {
            Some(name) => Ok(name.into()),
            None => self.unexpected(context),
        }
    }

    fn define(&mut self) -> Result<(), SyntaxError> {
        let name = self.name("define")?;
        self.close("define")?;
        self.definition(name)
    }

    /// Parses the body of a `define` or `block`, which has its own variables.
    fn definition(&mut self, name: Arc<str>) -> Result<(), SyntaxError> {
        let outer = std::mem::replace(&mut self.variables, vec!["$".into()]);
        let loops = std::mem::take(&mut self.loops);
        let (body, end) = self.nested(|p| p.block(false))?;
        let BlockEnd::End = end else { return self.error(format!("unexpected {} in define", end.word())) };
        self.variables = outer;
        self.loops = loops;
        self.defined.push(Template { name, body });
        Ok(())
    }

    fn control(&mut self, word: &'static str) -> Result<Node, SyntaxError> {
        let visible = self.variables.len();
        let pipeline = self.pipeline(word, TokenKind::Close)?;
        self.loops += usize::from(word == "range");
        let (then, end) = self.block(false)?;
        self.loops -= usize::from(word == "range");
        let otherwise = match end {
            BlockEnd::End => Block::default(),
            BlockEnd::ElseChain(next) if next == word => Box::new([self.nested(|p| p.control(next))?]),
            BlockEnd::Else => match self.block(false)? {
                (otherwise, BlockEnd::End) => otherwise,
                (_, end) => return self.error(format!("expected {{{{end}}}} of {word}, found {}", end.word())),
            },
            end => return self.error(format!("unexpected {} in {word}", end.word())),
        };
        self.variables.truncate(visible);
        Ok(match word {
            "if" => Node::If { condition: pipeline, then, otherwise },
            "with" => Node::With { value: pipeline, then, otherwise },
            _ => Node::Range { over: pipeline, body: then, otherwise },
        })
    }

    fn pipeline(&mut self, context: &str, end: TokenKind) -> Result<Pipeline, SyntaxError> {
        self.skip_space();
        let line = self.line();
        let (variables, assigns) = self.declarations(context)?;
        let mut commands = Vec::new();
        loop {
            self.skip_space();
            if self.take(end).is_some() {
                break;
            }
            let command = self.command(context)?;
            let value = matches!(
                command.head,
                Expr::Bool(_) | Expr::Dot | Expr::Nil | Expr::Int(_) | Expr::Float(_) | Expr::Text(_)
            );
            if value && !commands.is_empty() {
                return self.error(format!("non executable command in pipeline stage {}", commands.len() + 1));
            }
            commands.push(command);
        }
        if commands.is_empty() {
            return self.error(format!("missing value for {context}"));
        }
        Ok(Pipeline { line, variables: variables.into(), assigns, commands: commands.into() })
    }

    /// Parses `$x :=`, `$x =`, or `$k, $v :=` in a range.
    fn declarations(&mut self, context: &str) -> Result<(Vec<Arc<str>>, bool), SyntaxError> {
        let start = self.at;
        let mut names: Vec<Arc<str>> = Vec::new();
        while let Some(variable) = self.take(TokenKind::Variable) {
            names.push(variable.text.into());
            self.skip_space();
            let declares = self.take(TokenKind::Declare).is_some();
            if declares || self.take(TokenKind::Assign).is_some() {
                if let Some(unknown) = names.iter().find(|name| !declares && !self.variables.contains(name)) {
                    return self.error(format!("undefined variable {unknown:?}"));
                }
                self.variables.extend(names.iter().filter(|_| declares).cloned());
                return Ok((names, !declares));
            }
            if self.take(TokenKind::Comma).is_none() {
                break;
            }
            if context != "range" || names.len() > 1 {
                return self.error(format!("too many declarations in {context}"));
            }
            self.skip_space();
        }
        self.at = start;
        Ok((Vec::new(), false))
    }

    fn command(&mut self, context: &str) -> Result<Command, SyntaxError> {
        let head = self.operand(context)?;
        let mut arguments = Vec::new();
        loop {
            let spaced = self.peek_kind() == Some(TokenKind::Space);
            self.skip_space();
            match self.peek_kind() {
                Some(TokenKind::Close | TokenKind::RightParen) => break,
                Some(TokenKind::Pipe) => {
                    self.at += 1;
                    self.skip_space();
                    if matches!(
                        self.peek_kind(),
                        Some(TokenKind::Close | TokenKind::RightParen | TokenKind::Pipe) | None
                    ) {
                        return self.error(format!("missing command after | in {context}"));
                    }
                    break;
                }
                Some(_) if spaced => arguments.push(self.operand(context)?),
                _ => return self.unexpected("operand"),
            }
        }
        Ok(Command { head, arguments: arguments.into() })
    }

    /// Parses a term and the fields that follow it directly.
    fn operand(&mut self, context: &str) -> Result<Expr, SyntaxError> {
        let term = self.term(context)?;
        let mut fields = Vec::new();
        while let Some(field) = self.take(TokenKind::Field) {
            fields.push(field_name(field));
        }
        if fields.is_empty() {
            return Ok(term);
        }
        Ok(match term {
            Expr::Field(first) => Expr::Field(first.into_iter().chain(fields).collect()),
            Expr::Variable(name, _) => Expr::Variable(name, fields.into()),
            term @ (Expr::Group(_) | Expr::Function(_)) => Expr::Chain(Box::new(term), fields.into()),
            _ => return self.error("unexpected . after a literal"),
        })
    }

    fn term(&mut self, context: &str) -> Result<Expr, SyntaxError> {
        let Some(token) = self.peek() else { return self.unexpected(context) };
        let parsed = match token.kind {
            TokenKind::Dot => Some(Expr::Dot),
            TokenKind::Field => Some(Expr::Field(Box::new([field_name(token)]))),
            TokenKind::Word => Some(word(token)?),
            TokenKind::Variable if !self.variables.iter().any(|name| **name == *token.text) => {
                return self.error(format!("undefined variable {:?}", token.text));
            }
            TokenKind::Variable => Some(Expr::Variable(token.text.into(), Box::default())),
            TokenKind::Number => number(token.text),
            TokenKind::Char => unquote_char(token.text).map(|c| Expr::Int(i64::from(u32::from(c)))),
            TokenKind::Quoted => unquote(token.text).map(|text| Expr::Text(text.into())),
            TokenKind::LeftParen => {
                self.at += 1;
                let inner = self.nested(|p| p.pipeline("parenthesized pipeline", TokenKind::RightParen))?;
                return Ok(Expr::Group(Box::new(inner)));
            }
            _ => return self.unexpected(context),
        };
        let Some(term) = parsed else { return self.error(format!("bad literal {}", token.text)) };
        self.at += 1;
        Ok(term)
    }
}

fn field_name(token: Token<'_>) -> Arc<str> {
    token.text.trim_start_matches('.').into()
}

fn word(token: Token<'_>) -> Result<Expr, SyntaxError> {
    match token.text {
        "true" => Ok(Expr::Bool(true)),
        "false" => Ok(Expr::Bool(false)),
        "nil" => Ok(Expr::Nil),
        name => functions::find(name)
            .map(Expr::Function)
            .ok_or_else(|| SyntaxError { line: token.line, kind: SyntaxErrorKind::UnknownFunction(name.to_owned()) }),
    }
}

fn number(text: &str) -> Option<Expr> {
    functions::parse_int(text).map(Expr::Int).or_else(|| text.replace('_', "").parse().ok().map(Expr::Float))
}

#[cfg(test)]
mod tests;
