//! Parses the parts of Markdown documents that tests use. Pure.

use std::collections::BTreeMap;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A parsed document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Document {
    /// Path in the repository.
    pub(super) path: String,
    pub(super) blocks: Vec<CodeBlock>,
    /// Inline code spans.
    pub(super) code: Vec<Snippet>,
    /// Targets of links.
    pub(super) links: Vec<Snippet>,
    /// Texts of the headings.
    pub(super) headings: Vec<String>,
}

/// A code block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CodeBlock {
    /// First line of the block.
    pub(super) line: usize,
    /// The info string.
    pub(super) info: String,
    /// Content of the block.
    pub(super) text: String,
}

/// Inline code or a link target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snippet {
    pub(super) line: usize,
    /// Text of the snippet.
    pub(super) text: String,
}

/// The element whose text is being collected.
enum OpenText {
    CodeBlock(usize, String),
    HeadingText,
}

impl Document {
    /// Parses a document.
    pub(super) fn parse(path: &str, text: &str) -> Self {
        let mut document = Self { path: path.to_owned(), ..Self::default() };
        let mut reading = None;
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            let line = text.get(..range.start).unwrap_or_default().matches('\n').count() + 1;
            document.take(event, line, &mut reading);
        }
        document
    }

    fn take(&mut self, event: Event<'_>, line: usize, reading: &mut Option<(OpenText, String)>) {
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                let info = if let CodeBlockKind::Fenced(info) = kind { info.to_string() } else { String::new() };
                *reading = Some((OpenText::CodeBlock(line, info), String::new()));
            }
            Event::Start(Tag::Heading { .. }) => *reading = Some((OpenText::HeadingText, String::new())),
            Event::Start(Tag::Link { dest_url, .. }) => {
                self.links.push(Snippet { line, text: dest_url.to_string() });
            }
            Event::Text(text) => {
                if let Some((_, read)) = reading {
                    read.push_str(&text);
                }
            }
            Event::Code(text) => {
                if let Some((_, read)) = reading {
                    read.push_str(&text);
                }
                self.code.push(Snippet { line, text: text.to_string() });
            }
            Event::End(TagEnd::CodeBlock | TagEnd::Heading(_)) => match reading.take() {
                Some((OpenText::CodeBlock(line, info), text)) => self.blocks.push(CodeBlock { line, info, text }),
                Some((OpenText::HeadingText, text)) => self.headings.push(text),
                None => {}
            },
            _ => {}
        }
    }

    /// The anchors that GitHub generates for the headings.
    pub(super) fn anchors(&self) -> Vec<String> {
        let mut seen = BTreeMap::<String, usize>::new();
        let anchor = |heading: &String| {
            let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
            let slug = heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-");
            let before = seen.entry(slug.clone()).and_modify(|count| *count += 1).or_insert(0);
            if *before == 0 { slug } else { format!("{slug}-{before}") }
        };
        self.headings.iter().map(anchor).collect()
    }
}

#[test]
fn parses_headings_links_and_code() {
    let text = "# A `b[]` c\n\nSee [d](e.md#f) and `g h`.\n\n```sh lab\ni \\\n  j\n```\n\n## A `b[]` c\n";
    let document = Document::parse("x.md", text);
    assert_eq!(document.anchors(), ["a-b-c", "a-b-c-1"]);
    assert_eq!(document.links, [Snippet { line: 3, text: "e.md#f".into() }]);
    assert!(document.code.contains(&Snippet { line: 3, text: "g h".into() }));
    let block = CodeBlock { line: 5, info: "sh lab".into(), text: "i \\\n  j\n".into() };
    assert_eq!(document.blocks, [block]);
}
