//! A short text for what a live object says where we have an opinion.

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::canonical::{Canonical, canonical};
use super::walk::walk;

// 64 bits tell the few forms that one object takes apart.
const BYTES: usize = 8;

/// A hash of `live`, of those places alone that `desired` speaks of, in canonical form: 16 hexadecimal digits that
/// are the same in every process. Taken of the server's answer to an apply, it tells later whether anything that
/// matters has changed since, whatever the server made of our words. Extras are not part of it.
#[must_use]
pub fn fingerprint(desired: &Value, live: &Value) -> String {
    let mut hash = Sha256::new();
    walk(desired, live, &mut |place, _, live| {
        hash.update(place.to_string());
        match canonical(place, live) {
            Canonical::Nothing => hash.update("\0-"),
            Canonical::Amount(nano) => hash.update(format!("\0q{nano}")),
            Canonical::Integer(integer) => hash.update(format!("\0i{integer}")),
            Canonical::Plain(value) => {
                hash.update("\0v");
                feed(&mut hash, value);
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

/// Feeds a value as JSON whose keys are sorted.
fn feed(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Array(elements) => {
            hash.update("[");
            for element in elements {
                feed(hash, element);
                hash.update(",");
            }
            hash.update("]");
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(key, _)| *key);
            hash.update("{");
            for (key, value) in fields {
                feed(hash, &Value::from(key.as_str()));
                hash.update(":");
                feed(hash, value);
                hash.update(",");
            }
            hash.update("}");
        }
        scalar => hash.update(scalar.to_string()),
    }
}
