//! The legacy JSON decoder of protocol buffers (`github.com/golang/protobuf/jsonpb`), as far as it decides what is accepted.

use serde_json::{Map, Value};

use super::{Rejection, ReleaseTypes, duration};

/// Longest text of a refused value in a message.
const SHOWN_VALUE: usize = 60;

/// The rejections of a document of this type.
pub(super) fn decode(types: ReleaseTypes, root: &str, value: &Value) -> Vec<Rejection> {
    let mut decoder = Decoder { types, path: String::new(), found: Vec::new() };
    decoder.value(root, value);
    decoder.found
}

/// The part of a document that istiod reads: keys that it doesn't know are not validated either.
pub(super) fn known_part(types: ReleaseTypes, type_name: &str, value: &Value) -> Value {
    match (value, type_name.strip_prefix("[]"), type_name.strip_prefix("{}")) {
        (Value::Array(items), Some(element), _) => items.iter().map(|item| known_part(types, element, item)).collect(),
        (Value::Object(entries), _, Some(element)) => {
            entries.iter().map(|(key, entry)| (key.clone(), known_part(types, element, entry))).collect()
        }
        (Value::Object(object), None, None) if types.is_message(type_name) => {
            let known = object.iter().filter_map(|(key, value)| {
                let (_, type_name) = types.field(type_name, key)?;
                Some((key.clone(), known_part(types, type_name, value)))
            });
            known.collect()
        }
        _ => value.clone(),
    }
}

struct Decoder {
    types: ReleaseTypes,
    path: String,
    found: Vec<Rejection>,
}

impl Decoder {
    fn reject(&mut self, value: &Value, expected: &str) {
        let mut shown = value.to_string();
        if shown.len() > SHOWN_VALUE {
            shown.truncate(shown.floor_char_boundary(SHOWN_VALUE));
            shown.push_str("...");
        }
        self.found.push(Rejection { path: self.path.clone(), reason: format!("{shown} is not {expected}") });
    }

    /// Continues at a part of the path.
    fn at(&mut self, part: &str, decode: impl FnOnce(&mut Self)) {
        let before = self.path.len();
        if !self.path.is_empty() && !part.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(part);
        decode(self);
        self.path.truncate(before);
    }

    fn value(&mut self, type_name: &str, value: &Value) {
        // Null leaves a field unset, whatever its type.
        if value.is_null() {
            return;
        }
        if let Some(element) = type_name.strip_prefix("[]") {
            let Value::Array(items) = value else { return self.reject(value, "a list") };
            for (index, item) in items.iter().enumerate() {
                self.at(&format!("[{index}]"), |decoder| decoder.value(element, item));
            }
        } else if let Some(element) = type_name.strip_prefix("{}") {
            let Value::Object(entries) = value else { return self.reject(value, "an object") };
            for (key, entry) in entries {
                self.at(key, |decoder| decoder.value(element, entry));
            }
        } else if self.types.is_message(type_name) {
            let Value::Object(object) = value else { return self.reject(value, "an object") };
            self.message(type_name, object);
        } else if let Some(names) = self.types.enum_names(type_name) {
            let accepts_all = self.types.has_unknown_enum_values();
            if !accepts_enum(value, |name| accepts_all || names.contains(name)) {
                let names: Vec<&str> = names.into_iter().collect();
                self.reject(value, &format!("one of {}", names.join(", ")));
            }
        } else {
            self.scalar(type_name, value);
        }
    }

    fn message(&mut self, message: &str, object: &Map<String, Value>) {
        for (key, value) in object {
            let Some((json, type_name)) = self.types.field(message, key) else { continue };
            // With both spellings the decoder takes the JSON name's value.
            if json != key && object.contains_key(json) {
                continue;
            }
            self.at(key, |decoder| decoder.value(type_name, value));
        }
    }

    fn scalar(&mut self, type_name: &str, value: &Value) {
        let (accepted, expected) = match type_name {
            "bool" | "google.protobuf.BoolValue" => (value.is_boolean(), "true or false, without quotes"),
            "string" | "google.protobuf.StringValue" => (value.is_string(), "a string; quote it"),
            "scalar" => (!value.is_array() && !value.is_object(), "a string"),
            "int32" | "google.protobuf.Int32Value" => {
                (within(value, i128::from(i32::MIN), i128::from(i32::MAX)), "a whole number of 32 bits")
            }
            "int64" | "google.protobuf.Int64Value" => {
                (within(value, i128::from(i64::MIN), i128::from(i64::MAX)), "a whole number of 64 bits")
            }
            "uint32" | "google.protobuf.UInt32Value" => {
                (is_unsigned(value) && within(value, 0, i128::from(u32::MAX)), "a whole number from 0 to 4294967295")
            }
            "uint64" | "google.protobuf.UInt64Value" => {
                (is_unsigned(value) && within(value, 0, i128::from(u64::MAX)), "a whole number from 0")
            }
            "float" | "double" | "google.protobuf.FloatValue" | "google.protobuf.DoubleValue" => {
                (is_float(value), "a number")
            }
            "google.protobuf.Duration" => {
                (value.as_str().and_then(duration::parse).is_some(), "a duration such as 10s or 1m30s")
            }
            "google.protobuf.Struct" => (value.is_object(), "an object"),
            // Istio's own type reads any string, and else a whole number.
            name if name.ends_with(".IntOrString") => {
                let is_number = value.is_number() && within(value, i128::from(i32::MIN), i128::from(i32::MAX));
                (value.is_string() || is_number, "a whole number or a string")
            }
            _ => (true, ""),
        };
        if !accepted {
            self.reject(value, expected);
        }
    }
}

/// A number as Go writes it in JSON, or what is between the quotes of a string as JSON escapes it.
fn literal(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => match number.as_f64() {
            // Go writes floats without a fraction as whole numbers.
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e21 => Some(format!("{float:.0}")),
            _ => Some(number.to_string()),
        },
        Value::String(_) => {
            let text = value.to_string();
            Some(text.strip_prefix('"')?.strip_suffix('"')?.trim_matches(' ').to_owned())
        }
        _ => None,
    }
}

/// The whole number that the decoder reads: also from between quotes, where `null` leaves the field unset.
pub(super) fn integer(value: &Value) -> Option<i128> {
    let text = literal(value)?;
    if text == "null" {
        return Some(0);
    }
    let digits = text.strip_prefix('-').unwrap_or(&text);
    let is_json = !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    is_json.then(|| text.parse().ok())?
}

fn within(value: &Value, low: i128, high: i128) -> bool {
    integer(value).is_some_and(|number| (low..=high).contains(&number))
}

/// Go reads no `-0` into an unsigned number.
fn is_unsigned(value: &Value) -> bool {
    literal(value).is_some_and(|text| !text.starts_with('-'))
}

fn is_float(value: &Value) -> bool {
    let Some(text) = literal(value) else { return false };
    if value.is_string() && matches!(value.as_str(), Some("NaN" | "Infinity" | "-Infinity")) {
        return true;
    }
    text == "null" || serde_json::from_str::<f64>(&text).is_ok_and(f64::is_finite)
}

/// A name between quotes, or any number.
fn accepts_enum(value: &Value, is_name: impl Fn(&str) -> bool) -> bool {
    match value {
        Value::String(name) => is_name(name),
        Value::Number(_) => within(value, i128::from(i32::MIN), i128::from(i32::MAX)),
        _ => false,
    }
}
