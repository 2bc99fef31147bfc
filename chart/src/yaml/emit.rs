//! Writes YAML byte for byte like Helm's `toYaml`, that is, like go-yaml 2 after conversion to JSON.

use std::cmp::Ordering;

use super::scalar::{self, is_break};
use crate::{
    budget::{Budget, EvalError},
    number,
    value::{List, Map, Value},
};

/// Lines longer than this are folded at the next space.
const WIDTH: usize = 80;
const INDENT: usize = 2;
/// Longer or multi-line keys are written with a question mark.
const LONGEST_SIMPLE_KEY: usize = 128;

/// Returns the value as YAML, without a trailing line break.
pub fn to_yaml(value: &Value, budget: &Budget) -> Result<String, EvalError> {
    let mut emitter = Emitter { out: String::new(), column: 0, budget };
    match value {
        Value::Map(map) if !map.borrow().is_empty() => emitter.map(map, 0, true)?,
        Value::List(list) if !list.items().is_empty() => emitter.list(list, 0, true)?,
        scalar => emitter.scalar(scalar, INDENT, false)?,
    }
    let mut out = emitter.out;
    // A literal with a trailing line break already ends the line.
    if out.ends_with('\n') && emitter.column == 0 {
        out.pop();
    }
    Ok(out)
}

struct Emitter<'b> {
    out: String,
    column: usize,
    budget: &'b Budget,
}

impl Emitter<'_> {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    fn put_char(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    fn break_line(&mut self) {
        self.out.push('\n');
        self.column = 0;
    }

    fn start_line(&mut self, indent: usize) {
        if self.column > 0 {
            self.break_line();
        }
        self.out.extend(std::iter::repeat_n(' ', indent));
        self.column = indent;
    }

    /// `inline`: the first entry continues the current line.
    fn map(&mut self, map: &Map, indent: usize, inline: bool) -> Result<(), EvalError> {
        let _level = self.budget.enter()?;
        let entries = map.borrow();
        let mut entries: Vec<_> = entries.iter().collect();
        entries.sort_by(|(a, _), (b, _)| compare_keys(a, b));
        for (index, (key, value)) in entries.into_iter().enumerate() {
            self.budget.spend(1)?;
            self.budget.fits(self.out.len())?;
            if index > 0 || !inline {
                self.start_line(indent);
            }
            if key.len() > LONGEST_SIMPLE_KEY || key.contains(is_break) {
                self.put("?");
                self.text(key, indent + INDENT, false);
                self.start_line(indent);
                self.put(":");
                self.item(value, indent)?;
            } else {
                self.text(key, indent + INDENT, true);
                self.put(":");
                self.map_value(value, indent)?;
            }
        }
        Ok(())
    }

    fn map_value(&mut self, value: &Value, indent: usize) -> Result<(), EvalError> {
        match value {
            Value::Map(map) if !map.borrow().is_empty() => self.map(map, indent + INDENT, false),
            // A list is not indented relative to its key.
            Value::List(list) if !list.items().is_empty() => self.list(list, indent, false),
            scalar => self.scalar(scalar, indent + INDENT, false),
        }
    }

    fn list(&mut self, list: &List, indent: usize, inline: bool) -> Result<(), EvalError> {
        let _level = self.budget.enter()?;
        for (index, value) in list.items().iter().enumerate() {
            self.budget.spend(1)?;
            self.budget.fits(self.out.len())?;
            if index > 0 || !inline {
                self.start_line(indent);
            }
            self.put("-");
            self.item(value, indent)?;
        }
        Ok(())
    }

    /// Writes the value after a dash, or after the colon of a key with a question mark.
    fn item(&mut self, value: &Value, indent: usize) -> Result<(), EvalError> {
        match value {
            Value::Map(map) if !map.borrow().is_empty() => {
                self.put_char(' ');
                self.map(map, indent + INDENT, true)
            }
            Value::List(list) if !list.items().is_empty() => {
                self.put_char(' ');
                self.list(list, indent + INDENT, true)
            }
            scalar => self.scalar(scalar, indent + INDENT, false),
        }
    }

    fn scalar(&mut self, value: &Value, indent: usize, key: bool) -> Result<(), EvalError> {
        let word = match value {
            Value::Nil => "null".into(),
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) => number::yaml_float(*value)
                .ok_or_else(|| EvalError::failed(format!("{value} can't be written as JSON; use a finite number")))?,
            Value::List(_) => "[]".into(),
            Value::Map(_) => "{}".into(),
            Value::Str(text) => {
                self.text(text, indent, key);
                return Ok(());
            }
            Value::Builtin(_) => {
                return Err(EvalError::failed("a built-in object can't be written as YAML; use one of its fields"));
            }
        };
        self.space();
        self.put(&word);
        Ok(())
    }

    /// Writes a space before a scalar, unless it starts a line.
    fn space(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with([' ', '\n']) {
            self.put_char(' ');
        }
    }

    fn text(&mut self, text: &str, indent: usize, key: bool) {
        let styles = scalar::styles(text);
        self.space();
        if text.contains('\n') && !key && styles.literal {
            self.literal(text, indent);
        } else if text.contains('\n') || !scalar::reads_as_string(text) || !styles.single_quoted {
            self.double_quoted(text, indent, key);
        } else if styles.plain {
            self.folded(text, indent, key, false);
        } else {
            self.put_char('\'');
            self.folded(text, indent, key, true);
            self.put_char('\'');
        }
    }

    /// Writes plain and single-quoted text; a single space beyond the width becomes a line break.
    fn folded(&mut self, text: &str, indent: usize, key: bool, quoted: bool) {
        let mut chars = text.char_indices().peekable();
        let mut after_space = false;
        while let Some((at, c)) = chars.next() {
            let next = chars.peek().map(|(_, next)| *next);
            let inside = !quoted || (at > 0 && next.is_some());
            if c == ' ' && !key && !after_space && self.column > WIDTH && inside && next != Some(' ') {
                self.start_line(indent);
            } else {
                if quoted && c == '\'' {
                    self.put_char('\'');
                }
                self.put_char(c);
            }
            after_space = c == ' ';
        }
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.put_char('|');
        if text.starts_with(' ') || text.starts_with(is_break) {
            self.put("2");
        }
        let body = text.strip_suffix(is_break);
        match body {
            None => self.put("-"),
            Some(body) if body.is_empty() || body.ends_with(is_break) => self.put("+"),
            Some(_) => {}
        }
        self.break_line();
        for line in text.split_inclusive('\n') {
            let content = line.strip_suffix('\n').unwrap_or(line);
            if !content.is_empty() {
                self.start_line(indent);
                self.put(content);
            }
            if content.len() < line.len() {
                self.break_line();
            }
        }
    }

    fn double_quoted(&mut self, text: &str, indent: usize, key: bool) {
        self.put_char('"');
        let mut chars = text.char_indices().peekable();
        let mut after_space = false;
        while let Some((at, c)) = chars.next() {
            let next = chars.peek().map(|(_, next)| *next);
            if c == ' ' && !key && !after_space && self.column > WIDTH && at > 0 && next.is_some() {
                self.start_line(indent);
                if next == Some(' ') {
                    self.put_char('\\');
                }
            } else if c == '"' || c == '\\' || is_break(c) || !scalar::is_printable(c) {
                self.escaped(c);
            } else {
                self.put_char(c);
            }
            after_space = c == ' ';
        }
        self.put_char('"');
    }

    fn escaped(&mut self, c: char) {
        let letter = match c {
            '\0' => '0',
            '\u{7}' => 'a',
            '\u{8}' => 'b',
            '\t' => 't',
            '\n' => 'n',
            '\u{b}' => 'v',
            '\u{c}' => 'f',
            '\r' => 'r',
            '\u{1b}' => 'e',
            '"' => '"',
            '\\' => '\\',
            '\u{85}' => 'N',
            '\u{2028}' => 'L',
            '\u{2029}' => 'P',
            c => {
                let number = u32::from(c);
                return self.put(&match number {
                    0..=0xff => format!("\\x{number:02X}"),
                    0x100..=0xffff => format!("\\u{number:04X}"),
                    _ => format!("\\U{number:08X}"),
                });
            }
        };
        self.put_char('\\');
        self.put_char(letter);
    }
}

/// Compares keys like go-yaml: letters by code point, other characters before letters, digits by their number.
fn compare_keys(a: &str, b: &str) -> Ordering {
    let (left, right): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = left.iter().zip(&right).position(|(x, y)| x != y) else { return left.len().cmp(&right.len()) };
    let (Some(x), Some(y)) = (left.get(at).copied(), right.get(at).copied()) else { return Ordering::Equal };
    match (x.is_alphabetic(), y.is_alphabetic()) {
        (true, true) => return x.cmp(&y),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    // Zeros count inside of a number, but not as leading zeros.
    let inside =
        (x == '0' || y == '0') && left.iter().take(at).rev().take_while(|c| c.is_ascii_digit()).any(|c| *c != '0');
    let number = |chars: &[char]| {
        let digits = chars.iter().skip(at).map_while(|c| c.to_digit(10));
        digits.fold((i64::from(inside), 0_usize), |(number, count), digit| {
            (number.wrapping_mul(10).wrapping_add(i64::from(digit)), count + 1)
        })
    };
    number(&left).cmp(&number(&right)).then(x.cmp(&y))
}

#[cfg(test)]
mod tests;
