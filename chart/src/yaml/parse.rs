//! Parses YAML like Helm: YAML 1.1 booleans and octal numbers; the last of duplicate keys wins.

use serde_saphyr::options::DuplicateKeyPolicy;

/// A YAML syntax error.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    message: String,
    /// The line, from 1, if known.
    pub line: Option<u64>,
}

/// Parses one document; an empty one is null.
pub fn parse(text: &str) -> Result<serde_json::Value, YamlError> {
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        emit_comments: false,
        // Files of CRDs exceed the default limits; charts are trusted, since they are pinned by digest.
        budget: None,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| YamlError {
        line: error.location().map(|location| location.line()),
        message: error.without_snippet().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parses_plain_scalars_like_go() {
        for (text, value) in [
            ("yes", json!(true)),
            ("off", json!(false)),
            ("0777", json!(511)),
            ("0x10", json!(16)),
            ("1e3", json!(1000.0)),
            ("~", json!(null)),
            ("", json!(null)),
            ("'0777'", json!("0777")),
            ("1.30.0", json!("1.30.0")),
            ("2001-01-01", json!("2001-01-01")),
            ("100m", json!("100m")),
        ] {
            assert_eq!(parse(text).unwrap(), value, "{text}");
        }
    }

    #[test]
    fn last_duplicate_key_wins() {
        assert_eq!(parse("a: 1\na: 2\n").unwrap(), json!({"a": 2}));
    }

    #[test]
    fn keys_are_strings() {
        assert_eq!(parse("1: a\ntrue: b\n").unwrap(), json!({"1": "a", "true": "b"}));
    }

    #[test]
    fn error_has_line() {
        assert!(parse("a: 1\nb: [\n").unwrap_err().line.is_some());
    }
}
