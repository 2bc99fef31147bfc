//! What tests look at in a document. Pure.

use std::collections::BTreeMap;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Document {
    /// Its path in the repository.
    pub(super) path: String,
    /// Its blocks of code.
    pub(super) blocks: Vec<Block>,
    /// The pieces of code in its sentences.
    pub(super) code: Vec<Piece>,
    /// Where its links lead.
    pub(super) links: Vec<Piece>,
    /// Its headings.
    pub(super) headings: Vec<String>,
}

/// A block of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// The line on which it begins.
    pub(super) line: usize,
    /// What stands behind the backticks.
    pub(super) info: String,
    /// The code.
    pub(super) text: String,
}

/// Something inside a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The line.
    pub(super) line: usize,
    /// What it is.
    pub(super) text: String,
}

/// Which text is being read.
enum Reading {
    Block(usize, String),
    Heading,
}

impl Document {
    /// Reads a document.
    pub(super) fn parse(path: &str, text: &str) -> Self {
        let mut document = Self { path: path.to_owned(), ..Self::default() };
        let mut reading = None;
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            let line = text.get(..range.start).unwrap_or_default().matches('\n').count() + 1;
            document.take(event, line, &mut reading);
        }
        document
    }

    fn take(&mut self, event: Event<'_>, line: usize, reading: &mut Option<(Reading, String)>) {
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                let info = if let CodeBlockKind::Fenced(info) = kind { info.to_string() } else { String::new() };
                *reading = Some((Reading::Block(line, info), String::new()));
            }
            Event::Start(Tag::Heading { .. }) => *reading = Some((Reading::Heading, String::new())),
            Event::Start(Tag::Link { dest_url, .. }) => {
                self.links.push(Piece { line, text: dest_url.to_string() });
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
                self.code.push(Piece { line, text: text.to_string() });
            }
            Event::End(TagEnd::CodeBlock | TagEnd::Heading(_)) => match reading.take() {
                Some((Reading::Block(line, info), text)) => self.blocks.push(Block { line, info, text }),
                Some((Reading::Heading, text)) => self.headings.push(text),
                None => {}
            },
            _ => {}
        }
    }

    /// The anchors that GitHub gives to its headings.
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
fn a_document_is_read_as_people_see_it() {
    let text = "# A `b[]` c\n\nSee [d](e.md#f) and `g h`.\n\n```sh lab\ni \\\n  j\n```\n\n## A `b[]` c\n";
    let document = Document::parse("x.md", text);
    assert_eq!(document.anchors(), ["a-b-c", "a-b-c-1"]);
    assert_eq!(document.links, [Piece { line: 3, text: "e.md#f".into() }]);
    assert!(document.code.contains(&Piece { line: 3, text: "g h".into() }));
    let block = Block { line: 5, info: "sh lab".into(), text: "i \\\n  j\n".into() };
    assert_eq!(document.blocks, [block]);
}
