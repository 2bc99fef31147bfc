//! The keys that a chart's values can have: those with a default, and those that its templates read.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

use crate::{
    Chart,
    template::ast::{Command, Expr, Node, Pipeline},
};

/// Istio's charts keep their defaults below this key and move them to the top level while they render.
const DEFAULTS: &str = "_internal_defaults_do_not_set";
/// Templates pass all global values to functions, which doesn't mean that they use each of them.
const GLOBAL: &str = "global";

/// A key of a chart's values with the keys below it, or all values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownKeys {
    below: BTreeMap<String, Self>,
    is_used_whole: bool,
}

impl KnownKeys {
    /// The key of this name below this one.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.below.get(key)
    }

    /// The keys below this one, without those that are internal to charts.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.below.iter().filter(|(key, _)| !key.starts_with('_')).map(|(key, below)| (key.as_str(), below))
    }

    /// Whether every key below this one can have an effect: a template uses the whole map, as for labels, or the chart
    /// names no key below it.
    #[must_use]
    pub fn is_free_form(&self) -> bool {
        self.is_used_whole || self.below.is_empty()
    }

    fn add_defaults(&mut self, defaults: &Map<String, Value>) {
        for (key, value) in defaults {
            let below = self.below.entry(key.clone()).or_default();
            if let Value::Object(values) = value {
                below.add_defaults(values);
            }
        }
    }

    fn add<S: AsRef<str>>(&mut self, path: &[S], is_used_whole: bool) {
        let is_everything = match path {
            [] => true,
            [only] => only.as_ref() == GLOBAL,
            _ => false,
        };
        let mut at = self;
        for key in path {
            at = at.below.entry(key.as_ref().to_owned()).or_default();
        }
        at.is_used_whole |= is_used_whole && !is_everything;
    }
}

impl Chart {
    /// The keys that have a default or that a template reads, including the templates in the chart's files, which
    /// istiod runs.
    #[must_use]
    pub fn known_keys(&self) -> KnownKeys {
        let mut known = KnownKeys::default();
        known.add_defaults(&self.values);
        if let Some(Value::Object(defaults)) = self.values.get(DEFAULTS) {
            known.add_defaults(defaults);
        }
        let mut reads = TemplateReads { known: &mut known };
        for template in self.templates.values() {
            reads.nodes(&template.body);
        }
        for text in self.files.values() {
            for path in paths_in_text(text) {
                known.add(&path, true);
            }
        }
        known
    }
}

/// The paths after `.Values` in a text.
fn paths_in_text(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.split(".Values").skip(1).map(|rest| {
        let mut rest = rest.strip_prefix(')').unwrap_or(rest);
        let mut path = Vec::new();
        while let Some(after) = rest.strip_prefix('.') {
            let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
            let (key, tail) = after.split_at(end);
            if key.is_empty() {
                break;
            }
            path.push(key);
            rest = tail.strip_prefix(')').unwrap_or(tail);
        }
        path
    })
}

/// How a template uses a value.
#[derive(Clone, Copy, PartialEq)]
enum ValueUse {
    /// It prints the value, iterates over it, or passes it on.
    Whole,
    /// It only tests whether it is set.
    Test,
}

/// Functions that only test or compare their arguments.
const TESTS: [&str; 6] = ["and", "eq", "gt", "ne", "not", "or"];

/// Collects the values that templates read.
struct TemplateReads<'k> {
    known: &'k mut KnownKeys,
}

impl TemplateReads<'_> {
    fn nodes(&mut self, nodes: &[Node]) {
        for node in nodes {
            match node {
                Node::Text(_) | Node::Break | Node::Continue => {}
                Node::Action(pipeline) => self.pipeline(pipeline, ValueUse::Whole),
                Node::If { condition, then, otherwise } => {
                    self.pipeline(condition, ValueUse::Test);
                    self.nodes(then);
                    self.nodes(otherwise);
                }
                Node::With { value, then, otherwise } => {
                    self.pipeline(value, ValueUse::Whole);
                    self.nodes(then);
                    self.nodes(otherwise);
                }
                Node::Range { over, body, otherwise } => {
                    self.pipeline(over, ValueUse::Whole);
                    self.nodes(body);
                    self.nodes(otherwise);
                }
                Node::Call { argument, .. } => {
                    if let Some(argument) = argument {
                        self.pipeline(argument, ValueUse::Whole);
                    }
                }
            }
        }
    }

    fn pipeline(&mut self, pipeline: &Pipeline, usage: ValueUse) {
        let usage = if pipeline.commands.len() > 1 { ValueUse::Whole } else { usage };
        for command in &pipeline.commands {
            self.command(command, usage);
        }
    }

    fn command(&mut self, command: &Command, usage: ValueUse) {
        let Expr::Function(function) = &command.head else {
            self.expression(&command.head, usage);
            return;
        };
        if let Some(path) = indexed(command) {
            self.known.add(&path, usage == ValueUse::Whole);
            return;
        }
        let keys: Vec<Arc<str>> = command.arguments.iter().filter_map(text).collect();
        match (function.name, &*command.arguments) {
            ("hasKey" | "pick", [map, ..]) => match path(map) {
                Some(of) => keys.into_iter().for_each(|key| self.known.add(&[&of[..], &[key]].concat(), false)),
                None => self.expression(map, ValueUse::Test),
            },
            ("dig", [.., _, map]) => {
                if let Some(of) = path(map) {
                    let keys = command.arguments.iter().map_while(text);
                    let keys: Vec<Arc<str>> = keys.take(command.arguments.len().saturating_sub(2)).collect();
                    self.known.add(&[of, keys].concat(), false);
                }
            }
            ("set" | "unset", [map, rest @ ..]) => {
                self.expression(map, ValueUse::Test);
                for value in rest {
                    self.expression(value, ValueUse::Whole);
                }
            }
            (name, arguments) => {
                let usage = if TESTS.contains(&name) { ValueUse::Test } else { ValueUse::Whole };
                for argument in arguments {
                    self.expression(argument, usage);
                }
            }
        }
    }

    fn expression(&mut self, expression: &Expr, usage: ValueUse) {
        if let Some(path) = path(expression) {
            self.known.add(&path, usage == ValueUse::Whole);
            return;
        }
        match expression {
            Expr::Group(pipeline) => self.pipeline(pipeline, usage),
            Expr::Chain(inner, _) => self.expression(inner, ValueUse::Test),
            _ => {}
        }
    }
}

/// The path of a value: `.Values.a.b`, `$.Values.a.b`, `(.Values.a).b`, `(.Values.a | default dict).b`,
/// `index .Values "a" "b"`.
fn path(expression: &Expr) -> Option<Vec<Arc<str>>> {
    let after_values = |fields: &[Arc<str>]| match fields {
        [first, rest @ ..] if &**first == "Values" => Some(rest.to_vec()),
        _ => None,
    };
    match expression {
        Expr::Field(fields) | Expr::Variable(_, fields) => after_values(fields),
        Expr::Chain(inner, fields) => Some([&path(inner)?[..], &fields[..]].concat()),
        Expr::Group(pipeline) => match &*pipeline.commands {
            [first, rest @ ..] if rest.iter().all(is_default) => {
                if first.arguments.is_empty() {
                    path(&first.head)
                } else {
                    indexed(first)
                }
            }
            _ => None,
        },
        _ => None,
    }
}

fn is_default(command: &Command) -> bool {
    matches!(&command.head, Expr::Function(function) if function.name == "default")
}

/// The path of `index .Values.a "b"`.
fn indexed(command: &Command) -> Option<Vec<Arc<str>>> {
    let (Expr::Function(function), [map, keys @ ..]) = (&command.head, &*command.arguments) else { return None };
    if function.name != "index" {
        return None;
    }
    let keys: Vec<Arc<str>> = keys.iter().map_while(text).collect();
    Some([path(map)?, keys].concat())
}

fn text(expression: &Expr) -> Option<Arc<str>> {
    match expression {
        Expr::Text(text) => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(values: &str, template: &str, file: &str) -> KnownKeys {
        let files = [
            ("Chart.yaml", "name: test\nversion: 1.0.0\n"),
            ("values.yaml", values),
            ("templates/object.yaml", template),
            ("files/injection.yaml", file),
        ];
        Chart::from_files(files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).into())
            .unwrap()
            .known_keys()
    }

    fn at<'k>(known: &'k KnownKeys, path: &str) -> Option<&'k KnownKeys> {
        path.split('.').try_fold(known, KnownKeys::get)
    }

    #[test]
    fn knows_defaults_at_top_level() {
        let known = known("_internal_defaults_do_not_set:\n  service: {type: x, annotations: {}}\n", "", "");
        assert!(at(&known, "service.type").is_some() && at(&known, "service.nodePorts").is_none());
        assert!(at(&known, "service.annotations").unwrap().is_free_form());
        assert!(!at(&known, "service").unwrap().is_free_form());
        assert_eq!(known.entries().map(|(key, _)| key).collect::<Vec<_>>(), ["service"]);
    }

    #[test]
    fn knows_keys_that_templates_read() {
        let template = r#"
{{- if hasKey .Values.service "class" }}{{ $.Values.service.class }}{{ end }}
{{- if and .Values.a.b (eq (.Values.a.c).d "x") }}{{ end }}
{{- $_ := pick .Values "picked" }}{{ dig "x" "y" "" .Values }}{{ index .Values "m" "n" }}
{{- with ((.Values.t | default dict).u).v }}{{ . }}{{ end }}
"#;
        let known = known("service: {type: x}\n", template, "");
        for path in ["service.class", "a.b", "a.c.d", "picked", "x.y", "m.n", "t.u.v"] {
            assert!(at(&known, path).is_some(), "{path}");
        }
        assert!(!at(&known, "service").unwrap().is_free_form());
        assert!(!at(&known, "a").unwrap().is_free_form());
    }

    #[test]
    fn whole_use_makes_map_free_form() {
        let values = "labels: {a: b}\nresources: {limits: {}}\nglobal: {hub: x}\ntested: {a: b}\n";
        let template = "{{ range $k, $v := .Values.labels }}{{ end }}{{ toYaml .Values.resources }}\
                        {{ .Values.global | toYaml }}{{ .Values | toYaml }}{{ if .Values.tested }}{{ end }}";
        let known = known(values, template, "");
        assert!(at(&known, "labels").unwrap().is_free_form() && at(&known, "resources").unwrap().is_free_form());
        assert!(!at(&known, "global").unwrap().is_free_form() && !at(&known, "tested").unwrap().is_free_form());
        assert!(!known.is_free_form());
    }

    #[test]
    fn knows_keys_in_injection_templates() {
        let file = "{{ .Values.global.proxy.image }} {{ ((.Values.global).tracer).zipkin }} .Values. $.Values";
        let known = known("", "", file);
        assert!(at(&known, "global.proxy.image").is_some() && at(&known, "global.tracer.zipkin").is_some());
    }
}
