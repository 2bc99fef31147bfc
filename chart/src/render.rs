//! Running a chart's templates in Helm's order over one shared set of values.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map as Object, Value as Json};

use crate::{
    Capabilities, Chart, Limits, Release, RenderError, Rendered,
    budget::{Budget, Stop},
    format,
    template::{
        eval::{Engine, Hosts},
        frame::Stopped,
    },
    value::{Entries, Host, Map, Value},
    values,
};

impl Chart {
    /// Renders all templates. The texts come sorted by the name of their template; blank ones are left out.
    /// The same arguments give the same bytes.
    pub fn render(
        &self,
        release: &Release,
        values: &serde_json::Value,
        capabilities: &Capabilities,
        limits: &Limits,
    ) -> Result<Vec<Rendered>, RenderError> {
        let values = self.coalesced(values)?;
        let problems = self.refused(&values);
        if !problems.is_empty() {
            return Err(RenderError::Schema { chart: self.name().to_owned(), problems });
        }
        let root = self.root(release, &values);
        drop(values);
        let budget = Budget::new(limits);
        let hosts = ChartHosts { files: &self.files, capabilities };
        let mut rendered = Vec::new();
        let mut total = 0_usize;
        for name in &self.order {
            let text = self.run(name, &root, &hosts, &budget).map_err(|stopped| self.error(stopped))?;
            total = total.saturating_add(text.len());
            if let Err(stop) = budget.fits(total) {
                return Err(self.error(Stopped { template: name.clone(), line: 0, stop }));
            }
            // Notes are for people, but charts refuse values in them too.
            if !(text.trim().is_empty() || name.ends_with("/NOTES.txt")) {
                rendered.push(Rendered { template: name.to_string(), text });
            }
        }
        rendered.sort_by(|a, b| a.template.cmp(&b.template));
        Ok(rendered)
    }

    /// What the chart's schema has against these values: one sentence for each place, beginning with its path.
    pub fn problems(&self, values: &serde_json::Value) -> Result<Vec<String>, RenderError> {
        Ok(self.refused(&self.coalesced(values)?))
    }

    fn refused(&self, coalesced: &Json) -> Vec<String> {
        self.schema.as_ref().map(|schema| schema.problems(coalesced)).unwrap_or_default()
    }

    fn run(&self, name: &Arc<str>, root: &Map, hosts: &ChartHosts<'_>, budget: &Budget) -> Result<String, Stopped> {
        let about = Entries::from([
            ("Name".into(), Value::Str(name.clone())),
            ("BasePath".into(), Value::text(format!("{}/templates", self.name()))),
        ]);
        let stopped = |stop| Stopped { template: name.clone(), line: 0, stop };
        root.set("Template".into(), Value::Map(Map::new(about)), budget).map_err(stopped)?;
        let mut out = String::new();
        Engine::new(&self.templates, hosts, budget).run(name, &Value::Map(root.clone()), &mut out)?;
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

    /// What `$` is. All templates share it, so what one of them sets, those after it see.
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
            ("Chart".into(), Value::Map(Map::new(self.about_chart()))),
            ("Release".into(), Value::Map(Map::new(release))),
            ("Values".into(), Value::from_json(values)),
            ("Subcharts".into(), Value::Map(Map::default())),
            ("Files".into(), Value::Host(Host::Files)),
            ("Capabilities".into(), Value::Host(Host::Capabilities)),
        ]))
    }

    fn about_chart(&self) -> Entries {
        let text = |key: &str| match self.metadata().get(key) {
            Some(Json::String(text)) => Value::text(text.as_str()),
            _ => Value::text(""),
        };
        let mut about: Entries = [
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
            about.insert(field.into(), self.metadata().get(key).map(Value::from_json).unwrap_or_default());
        }
        about.insert("Name".into(), Value::text(self.name()));
        about.insert("Version".into(), Value::text(self.version()));
        about.insert("AppVersion".into(), Value::text(self.app_version()));
        about.insert("Deprecated".into(), Value::Bool(self.metadata().get("deprecated") == Some(&Json::Bool(true))));
        about.insert("IsRoot".into(), Value::Bool(true));
        about
    }

    fn error(&self, Stopped { template, line, stop }: Stopped) -> RenderError {
        let (chart, template) = (self.name().to_owned(), template.to_string());
        let limit = match stop {
            Stop::Failed(problem) => return RenderError::Template { chart, template, line, problem },
            Stop::Refused(message) => return RenderError::Refused { chart, template, line, message },
            Stop::Steps => "many steps",
            Stop::Output => "much output",
            Stop::Depth => "deep nesting",
        };
        RenderError::Limit { chart, template, line, limit }
    }
}

/// Files and capabilities, as templates ask for them.
struct ChartHosts<'a> {
    files: &'a BTreeMap<String, Arc<str>>,
    capabilities: &'a Capabilities,
}

impl Hosts for ChartHosts<'_> {
    fn member(&self, host: Host, name: &str, arguments: &[Value]) -> Option<Value> {
        let version = self.capabilities.kube_version.as_str();
        match (host, name, arguments) {
            // A file that isn't there is an empty text.
            (Host::Files, "Get", [Value::Str(path)]) => {
                Some(Value::Str(self.files.get(&**path).cloned().unwrap_or_else(|| "".into())))
            }
            (Host::Capabilities, "KubeVersion", []) => Some(Value::Host(Host::KubeVersion)),
            (Host::Capabilities, "APIVersions", []) => Some(Value::Host(Host::ApiVersions)),
            (Host::KubeVersion, "Version" | "GitVersion", []) => Some(Value::text(version)),
            (Host::KubeVersion, "Major", []) => Some(version_part(version, 0)),
            (Host::KubeVersion, "Minor", []) => Some(version_part(version, 1)),
            (Host::ApiVersions, "Has", [Value::Str(wanted)]) => {
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
