//! Splits JSON into tokens byte by byte, without building a tree.

/// Nesting levels for which the lexer knows whether they are objects or arrays. Only keys near the top matter.
const SHALLOW: usize = 8;
/// Longer strings are not kept: neither keys nor names of objects are longer.
const MAX_KEPT: usize = 512;

/// What a byte of JSON ends or begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// `{` or `[`.
    Open,
    /// `}` or `]`.
    Close,
    /// The first quote of an object's key.
    KeyStart,
    /// The last quote of an object's key; [`Lexer::string`] has the key.
    KeyEnd,
    /// The last quote of a string that is a value; [`Lexer::string`] has it.
    StringEnd,
    /// A comma between values.
    Comma,
    /// Any other byte.
    Other,
}

/// State between two bytes.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts about the last byte")]
pub(super) struct Lexer {
    /// Number of open objects and arrays.
    pub(super) depth: usize,
    is_object: [bool; SHALLOW],
    in_string: bool,
    escaped: bool,
    in_key: bool,
    key_follows: bool,
    string: Vec<u8>,
}

impl Lexer {
    /// Reads the next byte.
    pub(super) fn next(&mut self, byte: u8) -> Token {
        if self.in_string { self.next_in_string(byte) } else { self.next_outside(byte) }
    }

    /// Reads the bytes at the start of `rest` that neither end a string nor begin an escape; none outside of a string.
    /// Strings are most of a body, so that this saves most of the time.
    pub(super) fn take_plain<'r>(&mut self, rest: &'r [u8]) -> &'r [u8] {
        if !self.in_string || self.escaped {
            return &[];
        }
        let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(rest.len());
        let plain = rest.get(..end).unwrap_or_default();
        self.keep(plain);
        plain
    }

    /// The last string that ended, as it was written between its quotes; empty if it was too long.
    pub(super) fn string(&self) -> &[u8] {
        if self.string.len() > MAX_KEPT { &[] } else { &self.string }
    }

    /// Keeps a part of a string, up to one byte over the limit.
    fn keep(&mut self, part: &[u8]) {
        if self.depth < SHALLOW {
            let room = (MAX_KEPT + 1).saturating_sub(self.string.len()).min(part.len());
            self.string.extend_from_slice(part.get(..room).unwrap_or_default());
        }
    }

    fn next_in_string(&mut self, byte: u8) -> Token {
        let ends = byte == b'"' && !self.escaped;
        self.escaped = byte == b'\\' && !self.escaped;
        if !ends {
            self.keep(&[byte]);
            return Token::Other;
        }
        self.in_string = false;
        if std::mem::take(&mut self.in_key) { Token::KeyEnd } else { Token::StringEnd }
    }

    fn next_outside(&mut self, byte: u8) -> Token {
        match byte {
            b'"' => {
                self.in_string = true;
                self.string.clear();
                self.in_key = std::mem::take(&mut self.key_follows);
                if self.in_key { Token::KeyStart } else { Token::Other }
            }
            b'{' | b'[' => {
                self.depth += 1;
                self.key_follows = byte == b'{';
                if let Some(is_object) = self.is_object.get_mut(self.depth) {
                    *is_object = self.key_follows;
                }
                Token::Open
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.key_follows = false;
                Token::Close
            }
            b',' => {
                self.key_follows = self.is_object.get(self.depth).copied().unwrap_or_default();
                Token::Comma
            }
            _ => Token::Other,
        }
    }
}
