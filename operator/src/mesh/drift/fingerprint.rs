//! A fingerprint of the fields of a live object that the operator desires.

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::canonical::{Canonical, canonical};
use super::walk::walk;

// 64 bits suffice, since only the few states of one object are compared.
const BYTES: usize = 8;

/// A hash of the fields of `live` that `desired` sets, in canonical form: 16 hexadecimal digits, stable across
/// processes. The fingerprint of the response to an apply detects later changes of these fields, including fields that
/// the server normalized or a webhook mutated. Extras are not included.
#[must_use]
pub fn fingerprint(desired: &Value, live: &Value) -> String {
    let mut hash = Sha256::new();
    walk(desired, live, &mut |path, _, live| {
        hash.update(path.to_string());
        match canonical(path, live) {
            Canonical::Empty => hash.update("\0-"),
            Canonical::Amount(nano) => hash.update(format!("\0q{nano}")),
            Canonical::Integer(integer) => hash.update(format!("\0i{integer}")),
            Canonical::Plain(value) => {
                hash.update("\0v");
                hash_value(&mut hash, value);
            }
        }
        hash.update("\0");
    });
    hash.finalize().iter().take(BYTES).fold(String::new(), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Hashes a value as JSON with sorted keys.
fn hash_value(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Array(elements) => {
            hash.update("[");
            for element in elements {
                hash_value(hash, element);
                hash.update(",");
            }
            hash.update("]");
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(key, _)| *key);
            hash.update("{");
            for (key, value) in fields {
                hash_value(hash, &Value::from(key.as_str()));
                hash.update(":");
                hash_value(hash, value);
                hash.update(",");
            }
            hash.update("}");
        }
        scalar => hash.update(scalar.to_string()),
    }
}
