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

/// Scalars and brackets that all aliases of a document may repeat together.
const MAX_ALIASED_EVENTS: usize = 10_000;
/// Bytes of all scalars of a document, with those that aliases repeat. The output of a chart is shorter.
const MAX_SCALAR_BYTES: usize = 33 << 20;
/// Mappings and sequences in each other.
const MAX_DEPTH: usize = 255;

/// Parses one document; an empty one is null.
pub fn parse(text: &str) -> Result<serde_json::Value, YamlError> {
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        emit_comments: false,
        // Rendered text has values of users in it: a few kilobytes of aliases would expand to hundreds of megabytes. The
        // other limits don't apply, since files of CRDs exceed the default ones.
        budget: serde_saphyr::budget! {
            max_total_scalar_bytes: MAX_SCALAR_BYTES,
            max_depth: MAX_DEPTH,
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_ALIASED_EVENTS },
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
    fn aliases_are_bounded() {
        assert_eq!(parse("a: &x [1]\nb: *x\n").unwrap(), json!({"a": [1], "b": [1]}));
        let next = |text: String, n: i32| format!("{text}a{}: &a{} [{}]\n", n + 1, n + 1, format!("*a{n},").repeat(9));
        let bomb = (0..9).fold("a0: &a0 x\n".to_owned(), next);
        assert!(bomb.len() < 1000, "{}", bomb.len());
        assert!(parse(&bomb).unwrap_err().to_string().contains("alias"));
        let long = format!("a: &x {}\nb: [{}]\n", "y".repeat(100_000), "*x,".repeat(1000));
        assert!(parse(&long).is_err(), "100 MB from 100 kB");
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
