//! Splits a template into tokens: the text outside of `{{ }}`, and the tokens inside.

use super::SyntaxError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    Text,
    Open,
    Close,
    Space,
    /// An identifier, including `true`, `false` and keywords.
    Word,
    /// `.name`, without the dot.
    Field,
    Dot,
    /// `$` or `$name`, with the dollar sign.
    Variable,
    Number,
    /// A string literal, with its quotes or backquotes.
    Quoted,
    Char,
    LeftParen,
    RightParen,
    Pipe,
    Assign,
    Declare,
    Comma,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'s> {
    pub kind: TokenKind,
    pub text: &'s str,
    pub line: u32,
}

/// Splits a whole template into tokens.
pub fn lex(source: &str) -> Result<Vec<Token<'_>>, SyntaxError> {
    let mut lexer = Lexer { rest: source, line: 1, tokens: Vec::new() };
    let mut trim_next = false;
    while let Some((before, _)) = lexer.rest.split_once("{{") {
        let line = lexer.line;
        lexer.take(before.len() + 2);
        let mut text = before;
        if trim_next {
            text = text.trim_start_matches(is_space);
        }
        if lexer.rest.starts_with('-') && lexer.rest.chars().nth(1).is_some_and(is_space) {
            lexer.take(1);
            text = text.trim_end_matches(is_space);
        }
        lexer.push_text(text, line);
        let after_space = lexer.rest.trim_start_matches(is_space);
        // A comment starts directly after the braces, or one space after a trim marker.
        let gap = lexer.rest.len() - after_space.len();
        trim_next = if after_space.starts_with("/*") && gap <= 1 { lexer.comment(gap)? } else { lexer.action()? };
    }
    let line = lexer.line;
    let text = if trim_next { lexer.rest.trim_start_matches(is_space) } else { lexer.rest };
    lexer.push_text(text, line);
    Ok(lexer.tokens)
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

struct Lexer<'s> {
    rest: &'s str,
    line: u32,
    tokens: Vec<Token<'s>>,
}

impl<'s> Lexer<'s> {
    fn error<T>(&self, message: impl Into<String>) -> Result<T, SyntaxError> {
        Err(SyntaxError::malformed(self.line, message))
    }

    /// Consumes bytes and returns them.
    fn take(&mut self, bytes: usize) -> &'s str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.rest = rest;
        let breaks = taken.bytes().filter(|byte| *byte == b'\n').count();
        self.line = self.line.saturating_add(u32::try_from(breaks).unwrap_or(u32::MAX));
        taken
    }

    fn push_text(&mut self, text: &'s str, line: u32) {
        if !text.is_empty() {
            self.tokens.push(Token { kind: TokenKind::Text, text, line });
        }
    }

    fn push(&mut self, kind: TokenKind, bytes: usize) {
        let line = self.line;
        let text = self.take(bytes);
        self.tokens.push(Token { kind, text, line });
    }

    /// Skips a comment; returns whether to trim the text after it.
    fn comment(&mut self, gap: usize) -> Result<bool, SyntaxError> {
        self.take(gap);
        let Some((comment, after)) = self.rest.split_once("*/") else { return self.error("unclosed comment") };
        let trimmed = after.starts_with(is_space) && after.chars().nth(1) == Some('-');
        let tail = if trimmed { 4 } else { 2 };
        self.take(comment.len() + 2);
        let end = self.take(tail);
        if end.ends_with("}}") { Ok(trimmed) } else { self.error("comment ends before closing delimiter") }
    }

    /// Reads the tokens of an action; returns whether to trim the text after it.
    fn action(&mut self) -> Result<bool, SyntaxError> {
        self.tokens.push(Token { kind: TokenKind::Open, text: "", line: self.line });
        let mut open_parens = 0_usize;
        loop {
            let spaces = self.rest.len() - self.rest.trim_start_matches(is_space).len();
            if spaces > 0 {
                self.push(TokenKind::Space, spaces);
            }
            let trimmed = spaces > 0 && self.rest.starts_with("-}}");
            if trimmed || self.rest.starts_with("}}") {
                if open_parens > 0 {
                    return self.error("unclosed left paren");
                }
                self.push(TokenKind::Close, if trimmed { 3 } else { 2 });
                return Ok(trimmed);
            }
            match self.token()? {
                TokenKind::LeftParen => open_parens += 1,
                TokenKind::RightParen if open_parens == 0 => return self.error("unexpected right paren"),
                TokenKind::RightParen => open_parens -= 1,
                _ => {}
            }
        }
    }

    /// Reads one token other than space and closing delimiter.
    fn token(&mut self) -> Result<TokenKind, SyntaxError> {
        let mut chars = self.rest.chars();
        let Some(first) = chars.next() else { return self.error("unclosed action") };
        let second = chars.next();
        let (kind, bytes) = match first {
            '(' => (TokenKind::LeftParen, 1),
            ')' => (TokenKind::RightParen, 1),
            '|' => (TokenKind::Pipe, 1),
            ',' => (TokenKind::Comma, 1),
            '=' => (TokenKind::Assign, 1),
            ':' if second == Some('=') => (TokenKind::Declare, 2),
            ':' => return self.error("expected :="),
            '"' | '\'' => (if first == '"' { TokenKind::Quoted } else { TokenKind::Char }, self.quoted(first)?),
            '`' => (TokenKind::Quoted, self.raw()?),
            '$' => (TokenKind::Variable, 1 + self.word_length(1)),
            '.' if !second.is_some_and(|c| c.is_ascii_digit()) => match self.word_length(1) {
                0 => (TokenKind::Dot, 1),
                length => (TokenKind::Field, 1 + length),
            },
            '.' | '+' | '-' | '0'..='9' => (TokenKind::Number, self.number_length()),
            c if is_word(c) => (TokenKind::Word, self.word_length(0)),
            c => return self.error(format!("unrecognized character in action: {c:?}")),
        };
        self.push(kind, bytes);
        let needs_end = matches!(kind, TokenKind::Word | TokenKind::Field | TokenKind::Dot | TokenKind::Variable);
        let ended = self.rest.starts_with(|c| is_space(c) || matches!(c, '.' | ',' | '|' | ':' | ')' | '('))
            || self.rest.is_empty()
            || self.rest.starts_with("}}");
        // An assignment may follow its variable without a space.
        let assigned = kind == TokenKind::Variable && self.rest.starts_with('=');
        if needs_end && !ended && !assigned {
            return self.error(format!("bad character {:?}", self.rest.chars().next().unwrap_or(' ')));
        }
        Ok(kind)
    }

    fn word_length(&self, skip: usize) -> usize {
        let word = self.rest.get(skip..).unwrap_or_default();
        word.len() - word.trim_start_matches(is_word).len()
    }

    fn number_length(&self) -> usize {
        let mut after_exponent = false;
        let hex = self.rest.trim_start_matches(['+', '-']).starts_with(['0']) && self.rest.contains(['x', 'X']);
        let mut length = 0;
        for c in self.rest.chars() {
            let sign = matches!(c, '+' | '-') && (length == 0 || after_exponent);
            if !(sign || c == '.' || is_word(c)) {
                break;
            }
            after_exponent = !hex && matches!(c, 'e' | 'E');
            length += c.len_utf8();
        }
        length
    }

    fn quoted(&self, quote: char) -> Result<usize, SyntaxError> {
        let mut escaped = false;
        for (at, c) in self.rest.char_indices().skip(1) {
            match c {
                '\n' => break,
                c if c == quote && !escaped => return Ok(at + 1),
                c => escaped = c == '\\' && !escaped,
            }
        }
        self.error("unterminated quoted string")
    }

    fn raw(&self) -> Result<usize, SyntaxError> {
        match self.rest.match_indices('`').nth(1) {
            Some((at, _)) => Ok(at + 1),
            None => self.error("unterminated raw quoted string"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> Vec<(TokenKind, &str)> {
        lex(source).unwrap().into_iter().filter(|t| t.kind != TokenKind::Space).map(|t| (t.kind, t.text)).collect()
    }

    #[test]
    fn trim_markers_trim_their_side_only() {
        use TokenKind::{Close, Open, Text, Word};
        assert_eq!(
            kinds("a \n {{- b -}} \n c {{ d }} e"),
            [
                (Text, "a"),
                (Open, ""),
                (Word, "b"),
                (Close, "-}}"),
                (Text, "c "),
                (Open, ""),
                (Word, "d"),
                (Close, "}}"),
                (Text, " e"),
            ]
        );
    }

    #[test]
    fn comments_are_removed_and_may_trim() {
        assert_eq!(
            kinds("a {{- /* x }} */ -}} b{{/* y */}}c"),
            [(TokenKind::Text, "a"), (TokenKind::Text, "b"), (TokenKind::Text, "c")]
        );
    }

    #[test]
    fn distinguishes_fields_variables_and_literals() {
        use TokenKind::{
            Char, Close, Declare, Dot, Field, LeftParen, Number, Open, Pipe, Quoted, RightParen, Variable,
        };
        assert_eq!(
            kinds(r#"{{$x := (.a.b | . $.c -1.5e-3 "q\"}}" `r` 'c')}}"#),
            [
                (Open, ""),
                (Variable, "$x"),
                (Declare, ":="),
                (LeftParen, "("),
                (Field, ".a"),
                (Field, ".b"),
                (Pipe, "|"),
                (Dot, "."),
                (Variable, "$"),
                (Field, ".c"),
                (Number, "-1.5e-3"),
                (Quoted, r#""q\"}}""#),
                (Quoted, "`r`"),
                (Char, "'c'"),
                (RightParen, ")"),
                (Close, "}}"),
            ]
        );
    }

    #[test]
    fn errors_name_the_line() {
        for source in ["\n{{ a", "\n{{/* a", "\n{{ \"a }}", "\n{{ (a }}", "\n{{ a) }}", "\n{{ a\" }}", "\n{{ ; }}"] {
            assert_eq!(lex(source).unwrap_err().line, 2, "{source}");
        }
    }
}
