//! Parses rendered text into YAML documents, one at a time.

use crate::{DocumentError, Rendered, yaml};

/// Splits a rendered text at document separators and parses lazily, so that only one of many large CRDs is in memory.
/// Skips blank documents.
pub fn documents(rendered: &Rendered) -> impl Iterator<Item = Result<serde_json::Value, DocumentError>> + '_ {
    DocumentSplitter { rest: Some(&rendered.text), line: 1 }.filter_map(|(line, text)| match yaml::parse(text) {
        Ok(serde_json::Value::Null) => None,
        Ok(document) => Some(Ok(document)),
        Err(error) => {
            let within = usize::try_from(error.line.unwrap_or(1)).unwrap_or(1);
            Some(Err(DocumentError {
                template: rendered.template.clone(),
                line: line + within.saturating_sub(1),
                problem: error.to_string(),
            }))
        }
    })
}

/// Iterates over the documents with more than comments, each with the number of its first line.
struct DocumentSplitter<'t> {
    rest: Option<&'t str>,
    line: usize,
}

impl<'t> Iterator for DocumentSplitter<'t> {
    type Item = (usize, &'t str);

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(rest) = self.rest {
            let line = self.line;
            let (text, next) = split_at_separator(rest);
            self.rest = next;
            self.line += text.bytes().filter(|byte| *byte == b'\n').count();
            if text.lines().any(|line| !(line.trim().is_empty() || line.trim_start().starts_with('#'))) {
                return Some((line, text));
            }
        }
        None
    }
}

/// Splits at the next `---` at the start of a line; as in Helm, text may follow the separator directly.
fn split_at_separator(text: &str) -> (&str, Option<&str>) {
    if let Some(rest) = text.strip_prefix("---") {
        return ("", Some(rest));
    }
    match text.find("\n---").and_then(|at| text.split_at_checked(at + 1)) {
        Some((before, from_separator)) => (before, from_separator.strip_prefix("---")),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn all(text: &str) -> Vec<Result<serde_json::Value, DocumentError>> {
        let rendered = Rendered { template: "c/templates/t.yaml".into(), text: text.into() };
        documents(&rendered).collect()
    }

    #[test]
    fn skips_blank_documents_and_comments() {
        let found = all("---\n# only words\n---\na: 1\n---  \n\n---b: 2\n---\nnull\n");
        let found: Vec<_> = found.into_iter().map(Result::unwrap).collect();
        assert_eq!(found, [json!({"a": 1}), json!({"b": 2})]);
    }

    #[test]
    fn ignores_indented_separators() {
        let found = all("a: |\n  ---\n  x\n");
        assert_eq!(found.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [json!({"a": "---\nx\n"})]);
    }

    #[test]
    fn error_names_line_and_parsing_continues() {
        let found = all("a: 1\n---\n\nb: [\n---\nc: 3\n");
        let error = found.get(1).unwrap().as_ref().unwrap_err();
        assert_eq!(error.template, "c/templates/t.yaml");
        assert!(error.line >= 4, "{error}");
        assert!(found.get(2).unwrap().is_ok());
    }
}
