//! Determines how to quote a string so that YAML 1.1 parsers read it as a string.

use std::sync::LazyLock;

use regex::Regex;

/// Words that are not strings without quotes.
const WORDS: [&str; 41] = [
    "", "~", "null", "Null", "NULL", "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", "n", "N",
    "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF", ".nan", ".NaN", ".NAN", ".inf", ".Inf", ".INF",
    "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF", "<<", "=",
];

/// Integers in Go's literal syntax (with underscores already removed) and floats of YAML 1.1.
static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"^[-+]?(?:0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)$",
    )
    .ok()
});
static BASE_60: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?$").ok());
static TIMESTAMP: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let time = r"([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[.,][0-9]+)?";
    Regex::new(&format!(
        r"^([0-9]{{4}})-([0-9]{{1,2}})-([0-9]{{1,2}})(?:[Tt]{time}(?:Z|[-+][0-9]{{2}}:[0-9]{{2}})| {time})?$"
    ))
    .ok()
});

fn matches(pattern: &LazyLock<Option<Regex>>, text: &str) -> bool {
    pattern.as_ref().is_some_and(|regex| regex.is_match(text))
}

/// Whether parsers read the unquoted text as a string.
pub fn reads_as_string(text: &str) -> bool {
    if text == "=" {
        return true;
    }
    match text.bytes().next() {
        None | Some(b'y' | b'Y' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'o' | b'O' | b'~' | b'<') => {
            !WORDS.contains(&text)
        }
        Some(b'.') => !WORDS.contains(&text) && text.parse::<f64>().is_err(),
        Some(b'0'..=b'9' | b'+' | b'-') => {
            !WORDS.contains(&text)
                && !matches(&NUMBER, &text.replace('_', ""))
                && !matches(&BASE_60, text)
                && !is_timestamp(text)
        }
        Some(_) => true,
    }
}

fn is_timestamp(text: &str) -> bool {
    let Some(found) = TIMESTAMP.as_ref().and_then(|regex| regex.captures(text)) else { return false };
    let number = |group| found.get(group).and_then(|part| part.as_str().parse::<u32>().ok());
    let (year, month, day) = (number(1).unwrap_or(0), number(2).unwrap_or(0), number(3).unwrap_or(0));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => 0,
    };
    let clock = |hour, minute, second| {
        number(hour).unwrap_or(0) < 24 && number(minute).unwrap_or(0) < 60 && number(second).unwrap_or(0) < 60
    };
    (1..=days).contains(&day) && clock(4, 5, 6) && clock(7, 8, 9)
}

/// The styles that a string's characters allow.
#[derive(Debug)]
pub struct ScalarStyles {
    /// Whether it can be unquoted in a block collection.
    pub plain: bool,
    /// Whether it can be in single quotes.
    pub single_quoted: bool,
    /// Whether it can be a literal block.
    pub literal: bool,
}

/// Determines the allowed styles in one pass over the characters.
pub fn styles(text: &str) -> ScalarStyles {
    let mut scan = ScalarScan { after_blank: true, ..ScalarScan::default() };
    let mut chars = text.chars().peekable();
    let mut first = true;
    while let Some(c) = chars.next() {
        let next = chars.peek().copied();
        scan.take(c, first, next);
        first = false;
    }
    let start = text.starts_with("---") || text.starts_with("...");
    let ends_blank =
        text.starts_with(' ') || text.ends_with(' ') || text.starts_with(is_break) || text.ends_with(is_break);
    let unsafe_anywhere = scan.break_after_space || scan.special;
    ScalarStyles {
        plain: !(ends_blank || scan.space_after_break || unsafe_anywhere || scan.breaks || scan.indicator || start),
        single_quoted: !(scan.space_after_break || unsafe_anywhere),
        literal: !(text.is_empty() || text.ends_with(' ') || unsafe_anywhere),
    }
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent findings of one pass")]
struct ScalarScan {
    indicator: bool,
    special: bool,
    breaks: bool,
    space_after_break: bool,
    break_after_space: bool,
    after_blank: bool,
    after_space: bool,
    after_break: bool,
}

impl ScalarScan {
    fn take(&mut self, c: char, first: bool, next: Option<char>) {
        let before_blank = next.is_none_or(|next| matches!(next, ' ' | '\t'));
        self.indicator |= match c {
            '#' => first || self.after_blank,
            ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => first,
            '?' | '-' => first && before_blank,
            ':' => before_blank,
            _ => false,
        };
        self.special |= !is_printable(c);
        let (space, line_break) = (c == ' ', is_break(c));
        self.space_after_break |= space && self.after_break;
        self.break_after_space |= line_break && self.after_space;
        self.breaks |= line_break;
        self.after_space = space;
        self.after_break = line_break;
        self.after_blank = line_break || matches!(c, ' ' | '\t' | '\0');
    }
}

/// Whether YAML 1.1 treats the character as a line break.
pub fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Whether go-yaml writes the character unescaped; it escapes tabs and everything beyond the basic multilingual plane.
pub fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_strings_that_need_quotes() {
        for text in [
            "yes",
            "NO",
            "on",
            "y",
            "~",
            "",
            "null",
            "1",
            "-1",
            "+1",
            "0777",
            "0x1F",
            "0b11",
            "0o17",
            "1_000",
            "1.5",
            ".5",
            "1.",
            "1e3",
            "-1.5E-3",
            ".inf",
            "-.INF",
            ".NaN",
            "12:30:45",
            "1:30",
            "2001-01-01",
            "2001-1-1t1:2:3.5Z",
            "2001-01-01 10:11:12",
            "<<",
        ] {
            assert!(!reads_as_string(text), "{text}");
        }
    }

    #[test]
    fn accepts_strings_similar_to_other_types() {
        for text in [
            "yess",
            "nope",
            "1.2.3",
            "1m",
            "08x",
            "0x",
            "2001-13-01",
            "2001-02-30",
            "-",
            "--x",
            ".x",
            "+",
            "=",
            "15021a",
            "12:60a",
            "1.30-dev",
            "1e",
            "e3",
        ] {
            assert!(reads_as_string(text), "{text}");
        }
    }

    #[test]
    fn characters_determine_allowed_styles() {
        for text in ["a b", "a:b", "a#b", "http://x", "-a", "?a", "a, b", "[", "a[0]"] {
            assert_eq!(styles(text).plain, text != "[", "{text}");
        }
        for text in
            ["a: b", "a:", "a #b", "#a", "- a", "-", "*", " a", "a ", "a\nb", "---", "--- a", "@a", "`a", "%a", "\ta"]
        {
            assert!(!styles(text).plain, "{text}");
        }
        assert!(styles(": a").single_quoted && !styles("a\tb").single_quoted);
        assert!(styles("a\nb").literal && !styles("a \nb").literal);
    }
}
