//! One object of a response: kept as it is, or replaced by a stub without the fields that exceed limits.

use serde_json::{Map, Value, json};

use super::lexer::{Lexer, Token};
use super::replaced::ObjectIdentity;
use crate::mesh::object::REPLACED_ANNOTATION;

/// Fields of the metadata that a stub has even if its metadata exceeds limits.
const IDENTITY: [&str; 5] = ["name", "namespace", "uid", "resourceVersion", "deletionTimestamp"];

/// Limits of one object in a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ItemLimits {
    /// Maximum size in bytes.
    pub(super) bytes: usize,
    /// Maximum number of values, which determines the memory that the parsed object takes: an object with one field
    /// takes 600 bytes and more.
    pub(super) values: usize,
    /// Maximum number of nested objects and arrays.
    pub(super) depth: usize,
    /// Whether `metadata.managedFields` is kept.
    pub(super) managed_fields: bool,
    /// Whether the limits are lower than usual, since other objects of the list take much.
    pub(super) is_reduced: bool,
}

/// An object whose bytes are arriving. Of two fields that exceed a limit together, the later one is left out. The
/// managed fields may take half of what is allowed, and are left out without a stub: tenants can set them to anything.
#[derive(Debug)]
pub(super) struct Item {
    limits: ItemLimits,
    /// The lexer's depth within the object's own braces.
    level: usize,
    bytes: Vec<u8>,
    values: usize,
    excess: Option<Excess>,
    /// The lexer's depth within the object of which a field is being left out.
    dropping: Option<usize>,
    in_metadata: bool,
    key: String,
    key_start: usize,
    /// Start of the object's own field that is being read.
    field: Checkpoint,
    /// Start of `metadata.managedFields`, while that is being read.
    managed_fields: Option<Checkpoint>,
    identity: Map<String, Value>,
    type_meta: Map<String, Value>,
}

/// What an object has before a field.
#[derive(Clone, Copy, Debug)]
struct Checkpoint {
    bytes: usize,
    values: usize,
}

/// A complete object.
#[derive(Debug)]
pub(super) struct FinishedItem {
    pub(super) bytes: Vec<u8>,
    pub(super) values: usize,
    pub(super) identity: ObjectIdentity,
    pub(super) excess: Option<Excess>,
}

/// The limit that an object exceeds.
#[derive(Debug)]
pub(super) struct Excess {
    pub(super) reason: String,
    /// Whether the object might fit into a list without other large objects.
    pub(super) is_reduced: bool,
}

impl Item {
    /// Begins at the object's opening brace, which the lexer has read.
    pub(super) fn new(limits: ItemLimits, level: usize) -> Self {
        Self {
            limits,
            level,
            bytes: b"{".to_vec(),
            values: 1,
            excess: None,
            dropping: None,
            in_metadata: false,
            key: String::new(),
            key_start: 0,
            field: Checkpoint { bytes: 1, values: 1 },
            managed_fields: None,
            identity: Map::new(),
            type_meta: Map::new(),
        }
    }

    /// Adds a part of a string.
    pub(super) fn extend(&mut self, plain: &[u8]) {
        if self.dropping.is_none() {
            self.bytes.extend_from_slice(plain);
            self.enforce_limits(false);
        }
    }

    /// Adds a byte, with the token that the lexer made of it. Returns whether the object is complete.
    pub(super) fn push(&mut self, byte: u8, token: Token, lexer: &Lexer) -> bool {
        let depth = lexer.depth;
        match self.dropping {
            Some(within) => self.drop_byte(byte, token, depth, within),
            None => self.keep_byte(byte, token),
        }
        self.note(token, lexer);
        self.enforce_limits(token == Token::Open && depth - self.level >= self.limits.depth);
        token == Token::Close && depth < self.level
    }

    /// The object as it was sent, or its stub.
    pub(super) fn finish(self) -> FinishedItem {
        let Self { bytes, values, identity, type_meta, excess, .. } = self;
        let text =
            |of: &Map<String, Value>, key: &str| of.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let object = ObjectIdentity {
            api_version: text(&type_meta, "apiVersion"),
            kind: text(&type_meta, "kind"),
            namespace: text(&identity, "namespace"),
            name: text(&identity, "name"),
            uid: text(&identity, "uid"),
        };
        let bytes = match &excess {
            None => bytes,
            Some(Excess { reason, .. }) => stub(&bytes, type_meta, identity, reason).to_string().into_bytes(),
        };
        FinishedItem { bytes, values, identity: object, excess }
    }

    fn keep_byte(&mut self, byte: u8, token: Token) {
        match token {
            Token::KeyStart => self.key_start = self.bytes.len(),
            Token::Open | Token::Comma => self.values += 1,
            _ => {}
        }
        self.bytes.push(byte);
    }

    /// Leaves out a byte of a field, and the comma before or after the field.
    fn drop_byte(&mut self, byte: u8, token: Token, depth: usize, within: usize) {
        match token {
            Token::Comma if depth == within => self.dropping = None,
            Token::Close if depth < within => {
                self.dropping = None;
                while self.bytes.last().is_some_and(|last| *last == b',' || last.is_ascii_whitespace()) {
                    self.bytes.pop();
                }
                self.bytes.push(byte);
            }
            _ => {}
        }
    }

    /// Leaves out what was read of a field, and the rest of it.
    fn drop_from(&mut self, start: Checkpoint, within: usize) {
        self.bytes.truncate(start.bytes);
        self.values = start.values;
        self.managed_fields = None;
        self.dropping = Some(within);
    }

    fn enforce_limits(&mut self, is_too_deep: bool) {
        if self.dropping.is_some() {
            return;
        }
        let ItemLimits { bytes, values, depth, is_reduced, .. } = self.limits;
        let within = if is_reduced { ", in a list of large objects" } else { "" };
        let excess = if is_too_deep {
            Some(format!("nested deeper than {depth} levels"))
        } else if self.bytes.len() > bytes {
            Some(format!("larger than {} KiB{within}", bytes / 1024))
        } else if self.values > values {
            Some(format!("made of more than {values} values{within}"))
        } else {
            None
        };
        if let Some(start) = self.managed_fields {
            let takes_half =
                self.bytes.len() - start.bytes > bytes / 2 || self.values.saturating_sub(start.values) > values / 2;
            if excess.is_some() || takes_half {
                self.drop_from(start, self.level + 1);
            }
        } else if let Some(reason) = excess {
            self.excess.get_or_insert(Excess { reason, is_reduced: is_reduced && !is_too_deep });
            self.drop_from(self.field, self.level);
        }
    }

    /// Follows the keys of the object and of its metadata, and their values that are strings.
    fn note(&mut self, token: Token, lexer: &Lexer) {
        let is_own = lexer.depth == self.level;
        if !(is_own || self.in_metadata && lexer.depth == self.level + 1) {
            return;
        }
        match token {
            Token::KeyEnd => {
                self.key = String::from_utf8_lossy(lexer.string()).into_owned();
                self.begin_field(is_own);
            }
            Token::StringEnd => {
                let (fields, names) = if is_own {
                    (&mut self.type_meta, ["apiVersion", "kind"].as_slice())
                } else {
                    (&mut self.identity, IDENTITY.as_slice())
                };
                if names.contains(&self.key.as_str()) {
                    let value = String::from_utf8_lossy(lexer.string()).into_owned();
                    fields.insert(self.key.clone(), value.into());
                }
            }
            Token::Comma | Token::Close => self.managed_fields = None,
            _ => {}
        }
    }

    fn begin_field(&mut self, is_own: bool) {
        if is_own {
            self.in_metadata = self.key == "metadata";
        }
        if self.dropping.is_some() {
            return;
        }
        let start = Checkpoint { bytes: self.key_start, values: self.values };
        if is_own {
            self.field = start;
        } else if self.key == "managedFields" && self.limits.managed_fields {
            self.managed_fields = Some(start);
        } else if self.key == "managedFields" {
            self.drop_from(start, self.level + 1);
        }
    }
}

/// A stub of what was kept of an object, or only of its identity if its metadata was not.
fn stub(kept: &[u8], type_meta: Map<String, Value>, identity: Map<String, Value>, reason: &str) -> Value {
    let mut stub: Map<String, Value> = serde_json::from_slice(kept).unwrap_or_default();
    for (key, value) in type_meta {
        stub.insert(key, value);
    }
    let metadata = stub.entry("metadata").or_insert(Value::Object(identity));
    let annotations = metadata.as_object_mut().map(|metadata| metadata.entry("annotations").or_insert(json!({})));
    if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
        annotations.insert(REPLACED_ANNOTATION.to_owned(), reason.into());
    }
    stub.insert(REPLACED_ANNOTATION.to_owned(), true.into());
    Value::Object(stub)
}
