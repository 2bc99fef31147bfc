//! Runs a chart's templates in Helm's order with one shared set of values.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map as Object, Value as Json};

use crate::{
    Capabilities, Chart, Limits, Release, RenderError, Rendered,
    budget::{Budget, EvalError},
    format,
    template::{
        eval::{BuiltinObjects, Engine},
        frame::LocatedError,
    },
    value::{Builtin, Entries, Map, Value},
    values,
};

impl Chart {
    /// Renders all templates. The result is sorted by template name, without blank texts. The output is deterministic.
    pub fn render(
        &self,
        release: &Release,
        values: &serde_json::Value,
        capabilities: &Capabilities,
        limits: &Limits,
    ) -> Result<Vec<Rendered>, RenderError> {
        let values = self.coalesced(values)?;
        let problems = self.schema_problems(&values);
        if !problems.is_empty() {
            return Err(RenderError::Schema { chart: self.name().to_owned(), problems });
        }
        let root = self.root(release, &values);
        drop(values);
        let budget = Budget::new(limits);
        let builtins = ChartBuiltins { files: &self.files, capabilities };
        let mut rendered = Vec::new();
        let mut total = 0_usize;
        for name in &self.order {
            let text = self.run(name, &root, &builtins, &budget).map_err(|error| self.error(error))?;
            total = total.saturating_add(text.len());
            if let Err(error) = budget.fits(total) {
                return Err(self.error(LocatedError { template: name.clone(), line: 0, error }));
            }
            // Notes are no manifests, but charts also call `fail` in them.
            if !(text.trim().is_empty() || name.ends_with("/NOTES.txt")) {
                rendered.push(Rendered { template: name.to_string(), text });
            }
        }
        rendered.sort_by(|a, b| a.template.cmp(&b.template));
        Ok(rendered)
    }

    /// Validates values against the chart's schema; returns one sentence per violation, with its path first.
    pub fn problems(&self, values: &serde_json::Value) -> Result<Vec<String>, RenderError> {
        Ok(self.schema_problems(&self.coalesced(values)?))
    }

    fn schema_problems(&self, coalesced: &Json) -> Vec<String> {
        self.schema.as_ref().map(|schema| schema.problems(coalesced)).unwrap_or_default()
    }

    fn run(
        &self,
        name: &Arc<str>,
        root: &Map,
        builtins: &ChartBuiltins<'_>,
        budget: &Budget,
    ) -> Result<String, LocatedError> {
        let template = Entries::from([
            ("Name".into(), Value::Str(name.clone())),
            ("BasePath".into(), Value::text(format!("{}/templates", self.name()))),
        ]);
        let locate = |error| LocatedError { template: name.clone(), line: 0, error };
        root.set("Template".into(), Value::Map(Map::new(template)), budget).map_err(locate)?;
        let mut out = String::new();
        Engine::new(&self.templates, builtins, budget).run(name, &Value::Map(root.clone()), &mut out)?;
        Ok(if out.contains(format::NO_VALUE) { out.replace(format::NO_VALUE, "") } else { out })
    }

    fn coalesced(&self, values: &Json) -> Result<Json, RenderError> {
        let found = match values {
            Json::Object(values) => return Ok(Json::Object(values::coalesce(values.clone(), &self.values))),
            Json::Null => return Ok(Json::Object(values::coalesce(Object::new(), &self.values))),
            Json::Bool(_) => "a boolean",
            Json::Number(_) => "a number",
            Json::String(_) => "a string",
            Json::Array(_) => "a list",
        };
        Err(RenderError::Values { chart: self.name().to_owned(), found })
    }

    /// The value of `$`. All templates share it, so that later templates see the changes of earlier ones.
    fn root(&self, release: &Release, values: &Json) -> Map {
        let release = Entries::from([
            ("Name".into(), Value::text(release.name.as_str())),
            ("Namespace".into(), Value::text(release.namespace.as_str())),
            ("IsInstall".into(), Value::Bool(true)),
            ("IsUpgrade".into(), Value::Bool(false)),
            ("Revision".into(), Value::Int(1)),
            ("Service".into(), Value::text("Helm")),
        ]);
        Map::new(Entries::from([
            ("Chart".into(), Value::Map(Map::new(self.chart_fields()))),
            ("Release".into(), Value::Map(Map::new(release))),
            ("Values".into(), Value::from_json(values)),
            ("Subcharts".into(), Value::Map(Map::default())),
            ("Files".into(), Value::Builtin(Builtin::Files)),
            ("Capabilities".into(), Value::Builtin(Builtin::Capabilities)),
        ]))
    }

    fn chart_fields(&self) -> Entries {
        let text = |key: &str| match self.metadata().get(key) {
            Some(Json::String(text)) => Value::text(text.as_str()),
            _ => Value::text(""),
        };
        let mut fields: Entries = [
            ("APIVersion", "apiVersion"),
            ("Condition", "condition"),
            ("Description", "description"),
            ("Home", "home"),
            ("Icon", "icon"),
            ("KubeVersion", "kubeVersion"),
            ("Tags", "tags"),
            ("Type", "type"),
        ]
        .into_iter()
        .map(|(field, key)| (field.into(), text(key)))
        .collect();
        for (field, key) in [("Annotations", "annotations"), ("Keywords", "keywords"), ("Sources", "sources")] {
            fields.insert(field.into(), self.metadata().get(key).map(Value::from_json).unwrap_or_default());
        }
        fields.insert("Name".into(), Value::text(self.name()));
        fields.insert("Version".into(), Value::text(self.version()));
        fields.insert("AppVersion".into(), Value::text(self.app_version()));
        fields.insert("Deprecated".into(), Value::Bool(self.metadata().get("deprecated") == Some(&Json::Bool(true))));
        fields.insert("IsRoot".into(), Value::Bool(true));
        fields
    }

    fn error(&self, LocatedError { template, line, error }: LocatedError) -> RenderError {
        let (chart, template) = (self.name().to_owned(), template.to_string());
        let limit = match error {
            EvalError::Failed(problem) => return RenderError::Template { chart, template, line, problem },
            EvalError::Rejected(message) => return RenderError::Rejected { chart, template, line, message },
            EvalError::Steps => "many steps",
            EvalError::Output => "much output",
            EvalError::Depth => "deep nesting",
        };
        RenderError::Limit { chart, template, line, limit }
    }
}

/// The built-in objects `.Files` and `.Capabilities`.
struct ChartBuiltins<'a> {
    files: &'a BTreeMap<String, Arc<str>>,
    capabilities: &'a Capabilities,
}

impl BuiltinObjects for ChartBuiltins<'_> {
    fn member(&self, builtin: Builtin, name: &str, arguments: &[Value]) -> Option<Value> {
        let version = self.capabilities.kube_version.as_str();
        match (builtin, name, arguments) {
            // A missing file is an empty string.
            (Builtin::Files, "Get", [Value::Str(path)]) => {
                Some(Value::Str(self.files.get(&**path).cloned().unwrap_or_else(|| "".into())))
            }
            (Builtin::Capabilities, "KubeVersion", []) => Some(Value::Builtin(Builtin::KubeVersion)),
            (Builtin::Capabilities, "APIVersions", []) => Some(Value::Builtin(Builtin::ApiVersions)),
            (Builtin::KubeVersion, "Version" | "GitVersion", []) => Some(Value::text(version)),
            (Builtin::KubeVersion, "Major", []) => Some(version_part(version, 0)),
            (Builtin::KubeVersion, "Minor", []) => Some(version_part(version, 1)),
            (Builtin::ApiVersions, "Has", [Value::Str(wanted)]) => {
                Some(Value::Bool(self.capabilities.api_versions.contains(&**wanted)))
            }
            _ => None,
        }
    }
}

/// The digits of one part of a version such as `v1.33+`.
fn version_part(version: &str, part: usize) -> Value {
    let part = version.trim_start_matches('v').split('.').nth(part).unwrap_or_default();
    let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
    Value::text(digits)
}

#[cfg(test)]
mod tests;
