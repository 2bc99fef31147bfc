//! Reads charts. The only module of this crate that does I/O.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Map, Value};

use crate::{
    LoadError,
    schema::Schema,
    template::{self, SyntaxErrorKind, eval},
    yaml,
};

/// A loaded chart: parsed templates, default values and files. Can be rendered any number of times.
#[derive(Debug)]
pub struct Chart {
    metadata: Map<String, Value>,
    name: String,
    version: String,
    app_version: String,
    pub(crate) values: Map<String, Value>,
    pub(crate) schema: Option<Schema>,
    pub(crate) files: BTreeMap<String, Arc<str>>,
    pub(crate) templates: eval::Templates,
    /// The names of the templates to run, in Helm's order.
    pub(crate) order: Vec<Arc<str>>,
}

impl Chart {
    /// Reads a chart from its directory.
    pub fn load(dir: &Path) -> Result<Self, LoadError> {
        let root = dir.canonicalize().map_err(|source| LoadError::Read { path: dir.into(), source })?;
        let mut files = BTreeMap::new();
        let mut directories = vec![(root.clone(), String::new())];
        while let Some((directory, prefix)) = directories.pop() {
            for (path, name) in entries(&directory)? {
                let real = path.canonicalize().map_err(|source| LoadError::Read { path: path.clone(), source })?;
                if !real.starts_with(&root) {
                    return Err(LoadError::Escapes { path });
                }
                let key = format!("{prefix}{name}");
                if real.is_dir() {
                    // Skips a link to a parent directory, which would recurse forever.
                    if !directory.starts_with(&real) {
                        directories.push((real, format!("{key}/")));
                    }
                } else {
                    files.insert(key, fs::read(&real).map_err(|source| LoadError::Read { path, source })?);
                }
            }
        }
        Self::from_files(files)
    }

    /// Creates a chart from its files; the keys are paths relative to the chart's directory, with `/` as separator.
    pub fn from_files(files: BTreeMap<String, Vec<u8>>) -> Result<Self, LoadError> {
        let mut files: BTreeMap<String, String> =
            files.into_iter().map(|(path, bytes)| (path, text_of(&bytes))).collect();
        let metadata = metadata(files.remove("Chart.yaml"))?;
        let name = text_field(&metadata, "name");
        let values = values(&name, files.remove("values.yaml"))?;
        let schema = match files.remove("values.schema.json") {
            Some(text) => {
                Some(Schema::parse(&text).map_err(|problem| LoadError::Schema { chart: name.clone(), problem })?)
            }
            None => None,
        };
        let mut sources = BTreeMap::new();
        let mut other_files = BTreeMap::new();
        for (path, text) in files {
            if path.starts_with("charts/") {
                return Err(LoadError::Subchart { chart: name, path });
            }
            if path.starts_with("templates/") {
                sources.insert(format!("{name}/{path}"), text);
            } else {
                other_files.insert(path, text.into());
            }
        }
        let (templates, order) = parse_templates(&name, &sources)?;
        Ok(Self {
            version: text_field(&metadata, "version"),
            app_version: text_field(&metadata, "appVersion"),
            metadata,
            name,
            values,
            schema,
            files: other_files,
            templates,
            order,
        })
    }

    /// The chart's name in `Chart.yaml`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The chart's own version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The version of the application that the chart installs; may be empty.
    #[must_use]
    pub fn app_version(&self) -> &str {
        &self.app_version
    }

    pub(crate) fn metadata(&self) -> &Map<String, Value> {
        &self.metadata
    }
}

fn entries(directory: &Path) -> Result<Vec<(PathBuf, String)>, LoadError> {
    let read = |source| LoadError::Read { path: directory.into(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(read)? {
        let entry = entry.map_err(read)?;
        found.push((entry.path(), entry.file_name().to_string_lossy().into_owned()));
    }
    Ok(found)
}

/// Converts to text without a byte order mark; replaces invalid UTF-8, which YAML doesn't allow.
fn text_of(bytes: &[u8]) -> String {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    String::from_utf8_lossy(bytes).into_owned()
}

fn text_field(metadata: &Map<String, Value>, key: &str) -> String {
    match metadata.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

fn metadata(text: Option<String>) -> Result<Map<String, Value>, LoadError> {
    let bad = |problem: String| LoadError::Metadata { problem };
    let text = text.ok_or_else(|| bad("the file is missing; is this the directory of a chart?".into()))?;
    let parsed = yaml::parse(&text).map_err(|error| bad(error.to_string()))?;
    let Value::Object(metadata) = parsed else { return Err(bad("it must be a map".into())) };
    for key in ["name", "version"] {
        if text_field(&metadata, key).is_empty() {
            return Err(bad(format!("{key} is missing")));
        }
    }
    let name = text_field(&metadata, "name");
    if name.contains(['/', '\\']) || name.starts_with('.') {
        return Err(bad(format!("name {name:?} must not be a path")));
    }
    Ok(metadata)
}

fn values(chart: &str, text: Option<String>) -> Result<Map<String, Value>, LoadError> {
    let bad = |problem: String| LoadError::Values { chart: chart.to_owned(), problem };
    match text.map(|text| yaml::parse(&text)) {
        None | Some(Ok(Value::Null)) => Ok(Map::new()),
        Some(Ok(Value::Object(values))) => Ok(values),
        Some(Ok(_)) => Err(bad("it must be a map".into())),
        Some(Err(error)) => Err(bad(error.to_string())),
    }
}

/// Parses all templates. Like Helm, parses and runs them in reverse order of names, those in deeper directories first;
/// the last definition of a name wins.
fn parse_templates(
    chart: &str,
    sources: &BTreeMap<String, String>,
) -> Result<(eval::Templates, Vec<Arc<str>>), LoadError> {
    let mut names: Vec<&String> = sources.keys().collect();
    names.sort_by_key(|name| std::cmp::Reverse((name.matches('/').count(), *name)));
    let mut templates = eval::Templates::new();
    let mut order = Vec::new();
    for name in names {
        let source = sources.get(name).map(String::as_str).unwrap_or_default();
        let parsed = template::parse(name, source).map_err(|error| {
            let (chart, template, line) = (chart.to_owned(), name.clone(), error.line);
            match error.kind {
                SyntaxErrorKind::UnknownFunction(function) => {
                    LoadError::UnknownFunction { chart, template, line, function }
                }
                SyntaxErrorKind::Malformed(problem) => LoadError::Template { chart, template, line, problem },
            }
        })?;
        eval::add_templates(&mut templates, parsed);
        let file = name.rsplit('/').next().unwrap_or(name);
        // Partials only define named templates.
        if !file.starts_with('_') {
            order.push(Arc::from(name.as_str()));
        }
    }
    Ok((templates, order))
}

#[cfg(test)]
mod tests;
