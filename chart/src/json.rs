//! Writes JSON like Go's `json.MarshalIndent`, with HTML characters escaped.

use crate::{
    budget::{Budget, EvalError},
    format::put,
    number,
    value::Value,
};

/// Writes JSON like sprig's `toPrettyJson`: sorted keys, indented by two spaces.
pub fn pretty(value: &Value, budget: &Budget) -> Result<String, EvalError> {
    let mut out = String::new();
    write_value(&mut out, value, 0, budget)?;
    Ok(out)
}

fn write_value(out: &mut String, value: &Value, depth: usize, budget: &Budget) -> Result<(), EvalError> {
    let _level = budget.enter()?;
    budget.spend(1)?;
    budget.fits(out.len())?;
    match value {
        Value::Nil => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) => out.push_str(&value.to_string()),
        Value::Float(value) => out.push_str(
            &number::json_float(*value)
                .ok_or_else(|| EvalError::failed(format!("{value} can't be written as JSON; use a finite number")))?,
        ),
        Value::Str(value) => write_string(out, value),
        Value::List(list) if list.items().is_empty() => out.push_str("[]"),
        Value::List(list) => {
            out.push('[');
            for (index, item) in list.items().iter().enumerate() {
                begin_line(out, index, depth + 1);
                write_value(out, item, depth + 1, budget)?;
            }
            end_lines(out, depth);
            out.push(']');
        }
        Value::Map(map) if map.borrow().is_empty() => out.push_str("{}"),
        Value::Map(map) => {
            out.push('{');
            for (index, (key, item)) in map.borrow().iter().enumerate() {
                begin_line(out, index, depth + 1);
                write_string(out, key);
                out.push_str(": ");
                write_value(out, item, depth + 1, budget)?;
            }
            end_lines(out, depth);
            out.push('}');
        }
        Value::Builtin(_) => {
            return Err(EvalError::failed("a built-in object can't be written as JSON; use one of its fields"));
        }
    }
    Ok(())
}

fn begin_line(out: &mut String, index: usize, depth: usize) {
    if index > 0 {
        out.push(',');
    }
    end_lines(out, depth);
}

fn end_lines(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                put(out, format_args!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pretty_of(json: &str) -> String {
        pretty(&Value::from_json(&serde_json::from_str(json).unwrap()), &Budget::default()).unwrap()
    }

    #[test]
    fn indents_by_two_spaces() {
        assert_eq!(
            pretty_of(r#"{"b":[1,{"c":null}],"a":{},"d":[]}"#),
            "{\n  \"a\": {},\n  \"b\": [\n    1,\n    {\n      \"c\": null\n    }\n  ],\n  \"d\": []\n}"
        );
    }

    #[test]
    fn escapes_html_characters_like_go() {
        assert_eq!(pretty_of(r#""<a href='x'>&\u2028\u0001""#), r#""\u003ca href='x'\u003e\u0026\u2028\u0001""#);
    }
}
