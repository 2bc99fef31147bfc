//! Reading YAML with the meaning it has in Helm: YAML 1.1 booleans and octal numbers, the last of two equal keys.

use serde_saphyr::options::DuplicateKeyPolicy;

/// Why a text is no YAML: what is wrong and where, as the parser put it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Unreadable {
    message: String,
    /// Line of the text, counted from one, where known.
    pub line: Option<u64>,
}

/// Reads one document; an empty one is null.
pub fn parse(text: &str) -> Result<serde_json::Value, Unreadable> {
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        emit_comments: false,
        // Charts are pinned and checked by digest, and a file of CRDs is larger than the default allows.
        budget: None,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| Unreadable {
        line: error.location().map(|location| location.line()),
        message: error.without_snippet().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_scalars_mean_what_they_mean_in_go() {
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
    fn the_last_of_two_equal_keys_wins() {
        assert_eq!(parse("a: 1\na: 2\n").unwrap(), json!({"a": 2}));
    }

    #[test]
    fn keys_are_strings() {
        assert_eq!(parse("1: a\ntrue: b\n").unwrap(), json!({"1": "a", "true": "b"}));
    }

    #[test]
    fn an_error_names_the_line() {
        assert!(parse("a: 1\nb: [\n").unwrap_err().line.is_some());
    }
}
