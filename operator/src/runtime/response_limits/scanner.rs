//! Scans the body of a response as it arrives.

use super::item::{Excess, FinishedItem, Item, ItemLimits};
use super::lexer::{Lexer, Token};
use super::replaced::{ObjectIdentity, SeenObject};

/// Where the objects of a response are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFormat {
    /// The body is one object.
    Object,
    /// In `items` of one document.
    List,
    /// In `object` of each of many documents.
    Watch,
}

impl BodyFormat {
    /// The key of the outermost object that has the objects, and the depth within the braces of such an object.
    const fn place(self) -> (&'static str, usize) {
        match self {
            Self::Object => ("", 1),
            Self::List => ("items", 3),
            Self::Watch => ("object", 2),
        }
    }
}

/// What the objects of a list may take together. Beyond that, each may take only little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListBudget {
    pub(super) bytes: usize,
    pub(super) values: usize,
    /// What each object may take in any case.
    pub(super) item_bytes: usize,
    pub(super) item_values: usize,
}

/// State between two chunks of a body.
#[derive(Debug)]
pub(super) struct Scanner {
    format: BodyFormat,
    limits: ItemLimits,
    budget: Option<ListBudget>,
    lexer: Lexer,
    /// The key of the outermost object whose value is being read.
    key: String,
    /// Kind and API version of a list, whose objects often have none.
    list: ObjectIdentity,
    is_deletion: bool,
    item: Option<Item>,
}

impl Scanner {
    pub(super) fn new(format: BodyFormat, limits: ItemLimits, budget: Option<ListBudget>) -> Self {
        Self {
            format,
            limits,
            budget,
            lexer: Lexer::default(),
            key: String::new(),
            list: ObjectIdentity::default(),
            is_deletion: false,
            item: None,
        }
    }

    /// Scans a chunk. Appends to `output` what can be passed on, and to `seen` the objects that are complete.
    pub(super) fn scan(&mut self, chunk: &[u8], output: &mut Vec<u8>, seen: &mut Vec<SeenObject>) {
        let mut rest = chunk;
        while let Some((byte, after)) = rest.split_first() {
            let plain = self.lexer.take_plain(rest);
            if !plain.is_empty() {
                if let Some(item) = &mut self.item {
                    item.extend(plain);
                } else {
                    output.extend_from_slice(plain);
                }
                rest = rest.get(plain.len()..).unwrap_or_default();
                continue;
            }
            rest = after;
            let token = self.lexer.next(*byte);
            if let Some(item) = &mut self.item {
                if item.push(*byte, token, &self.lexer) {
                    self.finish_item(output, seen);
                }
            } else if token == Token::Open && *byte == b'{' && self.is_in_place() {
                let (_, level) = self.format.place();
                self.item = Some(Item::new(self.item_limits(), level));
            } else {
                self.note(token);
                output.push(*byte);
            }
        }
    }

    fn is_in_place(&self) -> bool {
        let (key, level) = self.format.place();
        self.lexer.depth == level && (self.key == key || self.format == BodyFormat::Object)
    }

    /// Follows the keys of the outermost object, and their values that are strings.
    fn note(&mut self, token: Token) {
        let text = || String::from_utf8_lossy(self.lexer.string()).into_owned();
        match (self.lexer.depth, token) {
            (0, Token::Close) => {
                self.key.clear();
                self.is_deletion = false;
            }
            (1, Token::KeyEnd) => self.key = text(),
            (1, Token::StringEnd) => match (self.format, self.key.as_str()) {
                (BodyFormat::List, "apiVersion") => self.list.api_version = text(),
                (BodyFormat::List, "kind") => text().trim_end_matches("List").clone_into(&mut self.list.kind),
                (BodyFormat::Watch, "type") => self.is_deletion = self.lexer.string() == b"DELETED",
                _ => {}
            },
            _ => {}
        }
    }

    fn item_limits(&self) -> ItemLimits {
        let Some(budget) = self.budget else { return self.limits };
        let bytes = self.limits.bytes.min(budget.bytes.max(budget.item_bytes));
        let values = self.limits.values.min(budget.values.max(budget.item_values));
        let is_reduced = bytes < self.limits.bytes || values < self.limits.values;
        ItemLimits { bytes, values, is_reduced, ..self.limits }
    }

    fn finish_item(&mut self, output: &mut Vec<u8>, seen: &mut Vec<SeenObject>) {
        let Some(item) = self.item.take() else { return };
        let FinishedItem { bytes, values, mut identity, excess } = item.finish();
        if let Some(budget) = &mut self.budget {
            budget.bytes = budget.bytes.saturating_sub(bytes.len());
            budget.values = budget.values.saturating_sub(values);
        }
        output.extend(bytes);
        seen.push(match excess {
            Some(Excess { reason, is_reduced }) if !self.is_deletion => {
                if identity.kind.is_empty() {
                    identity.kind.clone_from(&self.list.kind);
                    identity.api_version.clone_from(&self.list.api_version);
                }
                SeenObject::Replaced { identity, reason, is_reduced }
            }
            _ => SeenObject::Fits { uid: identity.uid },
        });
    }
}

#[cfg(test)]
mod tests;
