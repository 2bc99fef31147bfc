//! The verbs of Go's `fmt` that templates use, and `strconv.Quote`.

use std::fmt;

use crate::{
    budget::{Budget, EvalError},
    number,
    value::Value,
};

pub fn put(out: &mut String, text: fmt::Arguments<'_>) {
    // Writing to a String can't fail.
    let _ = fmt::Write::write_fmt(out, text);
}

/// Go's text for a missing value at the end of a pipeline; Helm removes it from the output.
pub const NO_VALUE: &str = "<no value>";

/// `%v` of a value: `<nil>` for nil, `map[a:1 b:2]`, `[1 2]`.
pub fn display(value: &Value, budget: &Budget) -> Result<String, EvalError> {
    let mut out = String::new();
    write_value(&mut out, value, budget)?;
    Ok(out)
}

/// Writes the value of an action to the output.
pub fn print_action(value: &Value, out: &mut String, budget: &Budget) -> Result<(), EvalError> {
    match value {
        Value::Nil => out.push_str(NO_VALUE),
        value => write_value(out, value, budget)?,
    }
    Ok(())
}

fn write_value(out: &mut String, value: &Value, budget: &Budget) -> Result<(), EvalError> {
    let _level = budget.enter()?;
    budget.spend(1)?;
    budget.fits(out.len())?;
    match value {
        Value::Nil => out.push_str("<nil>"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) => out.push_str(&value.to_string()),
        Value::Float(value) => out.push_str(&number::go_float(*value)),
        Value::Str(value) => out.push_str(value),
        Value::List(list) => {
            out.push('[');
            for (index, item) in list.items().iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                write_value(out, item, budget)?;
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push_str("map[");
            for (index, (key, item)) in map.borrow().iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                out.push_str(key);
                out.push(':');
                write_value(out, item, budget)?;
            }
            out.push(']');
        }
        Value::Builtin(_) => {
            return Err(EvalError::failed("a built-in object can't be printed; use one of its fields"));
        }
    }
    Ok(())
}

/// `fmt.Sprint`: a space between two operands only when neither is a string.
pub fn sprint(values: &[Value], budget: &Budget) -> Result<String, EvalError> {
    let mut out = String::new();
    let mut after_text = true;
    for value in values {
        let is_text = matches!(value, Value::Str(_));
        if !after_text && !is_text {
            out.push(' ');
        }
        write_value(&mut out, value, budget)?;
        after_text = is_text;
    }
    Ok(out)
}

/// `fmt.Sprintf` with the verbs `%s %v %d %q %t %%`, without flags or widths.
pub fn sprintf(format: &str, values: &[Value], budget: &Budget) -> Result<String, EvalError> {
    let mut out = String::new();
    let mut values = values.iter();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('%') => out.push('%'),
            Some(verb @ ('s' | 'v' | 'd' | 'q' | 't')) => match values.next() {
                Some(value) => write_verb(&mut out, verb, value, budget)?,
                None => put(&mut out, format_args!("%!{verb}(MISSING)")),
            },
            Some(verb) => {
                return Err(EvalError::failed(format!(
                    "printf: %{verb} in {format:?} is not supported; use one of %s %v %d %q %t"
                )));
            }
            None => out.push_str("%!(NOVERB)"),
        }
    }
    let rest = values.as_slice();
    if !rest.is_empty() {
        let mut extra = Vec::new();
        for value in rest {
            extra.push(match value {
                Value::Nil => "<nil>".into(),
                value => format!("{}={}", value.type_name(), display(value, budget)?),
            });
        }
        put(&mut out, format_args!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(out)
}

fn write_verb(out: &mut String, verb: char, value: &Value, budget: &Budget) -> Result<(), EvalError> {
    match (verb, value) {
        ('v', _)
        | ('s', Value::Str(_) | Value::List(_) | Value::Map(_))
        | ('d', Value::Int(_))
        | ('t', Value::Bool(_)) => write_value(out, value, budget),
        ('q', Value::Str(text)) => {
            out.push_str(&quote(text));
            Ok(())
        }
        (_, Value::Nil) => {
            put(out, format_args!("%!{verb}(<nil>)"));
            Ok(())
        }
        (_, value) => {
            put(out, format_args!("%!{verb}({}={})", value.type_name(), display(value, budget)?));
            Ok(())
        }
    }
}

/// Quotes like Go's `strconv.Quote`.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            ' '..='~' => out.push(c),
            '\0'..='\u{7f}' => put(&mut out, format_args!("\\x{:02x}", u32::from(c))),
            c if is_printable(c) => out.push(c),
            '\0'..='\u{ffff}' => put(&mut out, format_args!("\\u{:04x}", u32::from(c))),
            c => put(&mut out, format_args!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

fn is_printable(c: char) -> bool {
    // `Debug` escapes exactly the unprintable characters, and also a combining mark at the very start.
    let debug = format!("{:?}", format_args!("x{c}").to_string());
    !debug.contains("\\u")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{Entries, List, Map};

    fn budget() -> Budget {
        Budget::default()
    }

    fn sample() -> Value {
        Value::Map(Map::new(Entries::from([
            ("b".into(), Value::List(List::new(vec![Value::Float(1.0), Value::Nil, Value::text("x y")]))),
            ("a".into(), Value::Bool(false)),
        ])))
    }

    #[test]
    fn collections_print_as_in_go() {
        assert_eq!(display(&sample(), &budget()).unwrap(), "map[a:false b:[1 <nil> x y]]");
    }

    #[test]
    fn prints_placeholder_for_missing_value() {
        let mut out = String::new();
        print_action(&Value::Nil, &mut out, &budget()).unwrap();
        assert_eq!(out, "<no value>");
    }

    #[test]
    fn print_separates_operands_that_are_no_strings() {
        let values = [Value::text("zipkin."), Value::text("ns"), Value::text(":9411")];
        assert_eq!(sprint(&values, &budget()).unwrap(), "zipkin.ns:9411");
        let values = [Value::Int(1), Value::Int(2), Value::text("a"), Value::Bool(true)];
        assert_eq!(sprint(&values, &budget()).unwrap(), "1 2atrue");
    }

    #[test]
    fn printf_verbs() {
        for (format, value, text) in [
            ("files/profile-%s.yaml", Value::text("demo"), "files/profile-demo.yaml"),
            ("%v", Value::Float(1e6), "1e+06"),
            ("%d%%", Value::Int(5), "5%"),
            ("%q", Value::text("a\"b"), "\"a\\\"b\""),
            ("%s", Value::Float(1.0), "%!s(float64=1)"),
            ("%s", Value::Nil, "%!s(<nil>)"),
            ("%d", Value::Float(1.0), "%!d(float64=1)"),
            ("none", Value::text("x"), "none%!(EXTRA string=x)"),
        ] {
            assert_eq!(sprintf(format, &[value], &budget()).unwrap(), text);
        }
        assert_eq!(sprintf("%s", &[], &budget()).unwrap(), "%!s(MISSING)");
        assert!(sprintf("%5d", &[Value::Int(1)], &budget()).is_err());
    }

    #[test]
    fn quotes_like_strconv() {
        assert_eq!(quote("a\tb\n\"\\\u{1}\u{7f}é\u{a0}\u{1f600}"), "\"a\\tb\\n\\\"\\\\\\x01\\x7fé\\u00a0😀\"");
    }
}
