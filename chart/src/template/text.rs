//! Parses Go's string and character literals.

/// Returns the text of a quoted literal; `None` if it is invalid in Go.
pub fn unquote(literal: &str) -> Option<String> {
    if let Some(raw) = literal.strip_prefix('`') {
        return Some(raw.strip_suffix('`')?.replace('\r', ""));
    }
    let inner = literal.strip_prefix('"')?.strip_suffix('"')?;
    let mut bytes = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c == '\\' {
            escape(&mut chars, &mut bytes)?;
        } else {
            push(&mut bytes, c);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Returns the code point of a character literal.
pub fn unquote_char(literal: &str) -> Option<char> {
    let inner = literal.strip_prefix('\'')?.strip_suffix('\'')?;
    let text = if inner == "\\'" { "'".to_owned() } else { unquote(&format!("\"{}\"", inner.replace('"', "\\\"")))? };
    let mut chars = text.chars();
    let only = chars.next()?;
    chars.next().is_none().then_some(only)
}

fn push(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn escape(chars: &mut std::str::Chars<'_>, bytes: &mut Vec<u8>) -> Option<()> {
    let simple = match chars.next()? {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        '\\' => '\\',
        '"' => '"',
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'v' => '\u{b}',
        'x' => {
            bytes.push(u8::try_from(digits(chars, 2, 16)?).ok()?);
            return Some(());
        }
        'u' => char::from_u32(digits(chars, 4, 16)?)?,
        'U' => char::from_u32(digits(chars, 8, 16)?)?,
        first @ '0'..='7' => {
            let number = first.to_digit(8)? * 64 + digits(chars, 2, 8)?;
            bytes.push(u8::try_from(number).ok()?);
            return Some(());
        }
        _ => return None,
    };
    push(bytes, simple);
    Some(())
}

fn digits(chars: &mut std::str::Chars<'_>, count: usize, radix: u32) -> Option<u32> {
    (0..count).try_fold(0_u32, |number, _| number.checked_mul(radix)?.checked_add(chars.next()?.to_digit(radix)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_literals_like_go() {
        for (literal, text) in [
            (r#""a\tb\"c\\""#, "a\tb\"c\\"),
            (r"`a\n{{ b }}`", r"a\n{{ b }}"),
            (r#""\x41\101\u00e9\U0001F600""#, "AAé😀"),
            (r#""\xc3\xa9""#, "é"),
        ] {
            assert_eq!(unquote(literal).as_deref(), Some(text));
        }
        assert_eq!(unquote(r#""\z""#), None);
        assert_eq!(unquote_char(r"'\n'"), Some('\n'));
        assert_eq!(unquote_char("'ab'"), None);
    }
}
