//! Parses command blocks with the shell syntax that documents use: pipes, `&&`, redirections, assignments, comments.
//! Pure.

/// The commands of a block, each with its words.
pub(super) fn commands(text: &str) -> Vec<Vec<String>> {
    let joined = text.replace("\\\n", " ");
    joined.lines().flat_map(of_line).collect()
}

fn of_line(line: &str) -> Vec<Vec<String>> {
    // Documents have no multi-line strings.
    let words = shlex::split(line).unwrap_or_else(|| panic!("unterminated quotation in: {line}"));
    let commands = words.split(|word| matches!(word.as_str(), "|" | "&&" | "||" | ";")).map(command);
    commands.filter(|command| !command.is_empty()).collect()
}

/// The words without leading assignments and without redirections.
fn command(words: &[String]) -> Vec<String> {
    let assigns = |word: &&String| {
        word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    };
    let mut kept = Vec::new();
    let mut words = words.iter().skip_while(assigns);
    while let Some(word) = words.next() {
        match word.trim_start_matches(|c: char| c.is_ascii_digit()) {
            ">" | ">>" | "<" => _ = words.next(),
            redirected if redirected.starts_with(['>', '<']) => {}
            _ => kept.push(word.clone()),
        }
    }
    kept
}

#[test]
fn parses_shell_syntax() {
    let text = "A=1 make x B=2 # why\nf \\\n  'a b' >y | g -f - && h > z\n\n# nothing\n";
    assert_eq!(commands(text), [vec!["make", "x", "B=2"], vec!["f", "a b"], vec!["g", "-f", "-"], vec!["h"]]);
}
