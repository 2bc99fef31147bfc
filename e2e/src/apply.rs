//! Server-side apply of manifests: namespaces, then CRDs, then everything else.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use kube::{Client, ResourceExt as _};

use crate::wait;
use crate::{Lab, LabError};

/// Field manager that tests and the demo apply with.
pub const FIELD_MANAGER: &str = "meshwright-lab";

impl Lab {
    /// Applies every YAML document in the given directories: namespaces first, then CRDs, then
    /// the rest, ordered by directory and file name.
    pub async fn apply_dirs(&self, paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<(), LabError> {
        let mut objects = Vec::new();
        for path in paths {
            for file in manifests(path.as_ref())? {
                let text = std::fs::read_to_string(&file).map_err(LabError::file(&file))?;
                objects.extend(parse(&file.display().to_string(), &text)?);
            }
        }
        apply_all(&self.client(), objects).await
    }

    /// Applies every document of a YAML text; `origin` identifies the text in errors.
    pub async fn apply_yaml(&self, origin: &str, text: &str) -> Result<(), LabError> {
        apply_all(&self.client(), parse(origin, text)?).await
    }
}

/// YAML files of a directory, sorted by name.
fn manifests(path: &Path) -> Result<Vec<PathBuf>, LabError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(LabError::file(path))? {
        files.push(entry.map_err(LabError::file(path))?.path());
    }
    files.retain(|file| matches!(file.extension().and_then(std::ffi::OsStr::to_str), Some("yaml" | "yml")));
    files.sort();
    Ok(files)
}

/// Parses the objects of a YAML text and expands Lists; skips empty documents and kustomizations.
pub fn parse(origin: &str, text: &str) -> Result<Vec<DynamicObject>, LabError> {
    let failed = |detail: String| LabError::Manifest { origin: origin.to_owned(), detail };
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let documents: Vec<serde_json::Value> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| failed(error.to_string()))?;
    let mut objects = Vec::new();
    for document in documents {
        let items = match document.get("items").and_then(serde_json::Value::as_array) {
            Some(items) => items.clone(),
            None => vec![document],
        };
        for item in items {
            if item.is_null() || item.get("kind").is_some_and(|kind| kind == "Kustomization") {
                continue;
            }
            objects.push(serde_json::from_value(item).map_err(|error| failed(error.to_string()))?);
        }
    }
    Ok(objects)
}

/// Applies objects: namespaces, CRDs, then the rest, each group in the given order.
pub async fn apply_all(client: &Client, mut objects: Vec<DynamicObject>) -> Result<(), LabError> {
    objects.sort_by_key(|object| match kind(object) {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        _ => 2,
    });
    let mut discovered = HashMap::new();
    for object in &objects {
        apply(client, object, &mut discovered).await?;
    }
    Ok(())
}

async fn apply(
    client: &Client,
    object: &DynamicObject,
    discovered: &mut HashMap<GroupVersionKind, (ApiResource, Scope)>,
) -> Result<(), LabError> {
    let name = object.name_any();
    let description = format!("{} {name}", kind(object));
    let invalid = |detail: String| LabError::Manifest { origin: description.clone(), detail };
    let types = object.types.as_ref().ok_or_else(|| invalid("no kind".to_owned()))?;
    let gvk = GroupVersionKind::try_from(types).map_err(|error| invalid(error.to_string()))?;
    let (resource, scope) = if let Some(found) = discovered.get(&gvk) {
        found.clone()
    } else {
        let found = resolve(client, &gvk).await?;
        discovered.insert(gvk, found.clone());
        found
    };
    let namespace = object.namespace().unwrap_or_else(|| "default".to_owned());
    let api: Api<DynamicObject> = Api::dynamic(client.clone(), &resource, &scope).constrain(&namespace);
    api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(object))
        .await
        .map_err(LabError::api(format!("apply {description}")))?;
    Ok(())
}

/// Waits for discovery: the API server serves a new CRD's kind with a short delay.
async fn resolve(client: &Client, gvk: &GroupVersionKind) -> Result<(ApiResource, Scope), LabError> {
    let what = format!("the kind {} of {} to be served", gvk.kind, gvk.api_version());
    wait::until(wait::TIMEOUT, what, async || {
        let found = discovery::pinned_kind(client, gvk).await.map_err(|error| error.to_string())?;
        Ok((found.0, found.1.scope))
    })
    .await
    .map_err(|error| LabError::Waited(Box::new(error)))
}

fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| types.kind.as_str())
}
