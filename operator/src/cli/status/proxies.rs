//! `meshwright status --proxies`: all workloads with a proxy, from the current pods.

use std::collections::BTreeMap;
use std::process::ExitCode;

use kube::Client;
use meshwright_api::{MeshInstallation, Phase};
use serde_json::{Value, json};

use super::screen::Screen;
use super::table::{TableCell, TableRow, TableWriter};
use super::text::{PLAIN, WARNING, clean};
use super::{StatusError, observed};
use crate::mesh::revisions::Revision;
use crate::proxies::{ProxyGroup, UNKNOWN, list};

/// Version of the JSON format; incremented when a field changes its meaning or is removed.
const FORMAT: u8 = 1;

/// What new pods of a control plane get.
#[derive(Clone, Copy, Default)]
struct CurrentProxy<'a> {
    /// The installed version of the mesh.
    version: Option<&'a str>,
    /// Hash of the configuration.
    configuration: Option<&'a str>,
}

/// What new pods get, by the revision in the proxies.
type Meshes<'a> = BTreeMap<String, CurrentProxy<'a>>;

/// Lists pods and shows their proxies with the version of their mesh. `only`: skip proxies of other meshes.
pub(super) async fn show(
    client: &Client,
    meshes: &[MeshInstallation],
    only: bool,
    json: bool,
) -> Result<ExitCode, StatusError> {
    let index = list(client).await.map_err(|error| StatusError::ListPods(Box::new(error)))?;
    let meshes: Meshes<'_> = meshes
        .iter()
        .flat_map(|mesh| {
            names(mesh).into_iter().map(move |name| {
                let current = current(mesh, &name);
                (name, current)
            })
        })
        .collect();
    let mut groups: Vec<(&ProxyGroup, usize)> =
        index.groups().filter(|(group, _)| !only || meshes.contains_key(&*group.revision)).collect();
    groups.sort();
    let screen = Screen::new(json, false, false);
    if json {
        let text = serde_json::to_string_pretty(&report(&groups, &meshes)).map_err(StatusError::Encode)?;
        screen.once(&format!("{text}\n"))?;
    } else {
        screen.once(&table(&groups, &meshes))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The revision names of a mesh's control planes.
fn names(mesh: &MeshInstallation) -> Vec<String> {
    let version = observed(mesh).map(|status| &status.version);
    let own = Revision::of(&mesh.spec).label().to_owned();
    let named = version.into_iter().flat_map(|version| version.revision.iter().chain(&version.retiring).cloned());
    std::iter::once(own).chain(named).collect()
}

/// What new pods get from a mesh's control plane of this revision.
fn current<'a>(mesh: &'a MeshInstallation, revision: &str) -> CurrentProxy<'a> {
    let Some(status) = observed(mesh) else { return CurrentProxy::default() };
    // During a rollout, new pods may get either configuration.
    let rolls_out = matches!(status.phase, Some(Phase::Installing | Phase::Updating | Phase::RollingBack));
    let active = status.version.revision.clone();
    let active = active.unwrap_or_else(|| Revision::of(&mesh.spec).label().to_owned());
    let configuration = status.proxies.as_ref().and_then(|proxies| proxies.configuration.as_deref());
    CurrentProxy {
        version: status.version.running.as_deref(),
        configuration: configuration.filter(|_| active == revision && !rolls_out),
    }
}

/// The version of the mesh that injected these proxies.
fn mesh<'a>(group: &ProxyGroup, meshes: &Meshes<'a>) -> Option<&'a str> {
    meshes.get(&*group.revision)?.version
}

/// Whether proxies of the mesh's version were injected with another configuration than new pods.
fn is_stale(group: &ProxyGroup, meshes: &Meshes<'_>) -> bool {
    let current = meshes.get(&*group.revision).and_then(|mesh| mesh.configuration);
    !is_outdated(group, meshes) && current.is_some_and(|current| group.has_stale_configuration(current))
}

fn is_outdated(group: &ProxyGroup, meshes: &Meshes<'_>) -> bool {
    mesh(group, meshes).is_some_and(|running| group.is_outdated(running))
}

fn report(groups: &[(&ProxyGroup, usize)], meshes: &Meshes<'_>) -> Value {
    let proxy = |(group, pods): &(&ProxyGroup, usize)| {
        json!({
            "namespace": *group.namespace,
            "kind": group.owner.kind.to_string(),
            "name": *group.owner.name,
            "version": *group.version,
            "revision": *group.revision,
            "meshVersion": mesh(group, meshes),
            "pods": pods,
            "outdated": is_outdated(group, meshes),
            "staleConfiguration": is_stale(group, meshes),
        })
    };
    json!({"format": FORMAT, "proxies": groups.iter().map(proxy).collect::<Vec<_>>()})
}

fn table(groups: &[(&ProxyGroup, usize)], meshes: &Meshes<'_>) -> String {
    let mut out = TableWriter::new(usize::MAX);
    if groups.is_empty() {
        out.line("no pods with a proxy");
        return out.finish();
    }
    let rows: Vec<TableRow> = groups.iter().map(|(group, pods)| row(group, *pods, meshes)).collect();
    out.table(&["NAMESPACE", "WORKLOAD", "REVISION", "VERSION", "PODS", "OUTDATED"], &rows);
    let all: usize = groups.iter().map(|(_, pods)| pods).sum();
    let count = |matches: fn(&ProxyGroup, &Meshes<'_>) -> bool| -> usize {
        groups.iter().filter(|(group, _)| matches(group, meshes)).map(|(_, pods)| pods).sum()
    };
    let stale = match count(is_stale) {
        0 => String::new(),
        stale => format!(", {stale} with a stale configuration; restart them to apply the current one"),
    };
    out.blank();
    out.line(&format!("{all} pods with a proxy, {} outdated{stale}", count(is_outdated)));
    out.finish()
}

fn row(group: &ProxyGroup, pods: usize, meshes: &Meshes<'_>) -> TableRow {
    let (style, outdated) = match mesh(group, meshes) {
        _ if *group.version == *UNKNOWN => (WARNING, "unknown".to_owned()),
        Some(running) if group.is_outdated(running) => (WARNING, format!("yes, the mesh has {}", clean(running))),
        Some(_) if is_stale(group, meshes) => (WARNING, "no, but its configuration is stale".to_owned()),
        Some(_) => (PLAIN, "no".to_owned()),
        None => (PLAIN, "no mesh with this revision".to_owned()),
    };
    let cells = vec![
        TableCell::new(clean(&group.namespace)),
        TableCell::new(clean(&format!("{}/{}", group.owner.kind, group.owner.name))),
        TableCell::new(clean(&group.revision)),
        TableCell::new(clean(&group.version)),
        TableCell::new(pods.to_string()),
        TableCell::styled(style, outdated),
    ];
    TableRow { cells, note: None }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;
    use crate::proxies::{PodOwner, PodOwnerKind};

    fn group(kind: PodOwnerKind, name: &str, version: &str) -> ProxyGroup {
        let owner = PodOwner { kind, name: name.into() };
        let (namespace, version, revision) = ("shop".into(), version.into(), "default".into());
        ProxyGroup { namespace, owner, version, revision, configuration: None }
    }

    fn meshes() -> Meshes<'static> {
        let current = CurrentProxy { version: Some("1.32.0"), configuration: Some("c2") };
        [("default".to_owned(), current), ("new".to_owned(), CurrentProxy::default())].into()
    }

    #[test]
    fn shows_stale_configuration_of_current_versions() {
        let injected = |name: &str, version: &str, hash: Option<&str>| ProxyGroup {
            configuration: hash.map(Into::into),
            ..group(PodOwnerKind::Deployment, name, version)
        };
        let groups = [
            injected("stale", "1.32.0", Some("c1")),
            injected("current", "1.32.0", Some("c2")),
            injected("older", "1.32.0", None),
            injected("outdated", "1.31.2", Some("c1")),
        ];
        let groups: Vec<(&ProxyGroup, usize)> = groups.iter().map(|group| (group, 2)).collect();
        let stale = report(&groups, &meshes())["proxies"].as_array().unwrap().clone();
        assert_eq!(
            stale.iter().map(|proxy| proxy["staleConfiguration"] == true).collect::<Vec<_>>(),
            [true, false, false, false]
        );
        let shown = strip_str(&table(&groups, &meshes())).to_string();
        assert_eq!(shown.matches("no, but its configuration is stale").count(), 1, "{shown}");
        assert!(shown.contains("8 pods with a proxy, 2 outdated, 2 with a stale configuration; restart"), "{shown}");
    }

    #[test]
    fn shows_outdated_workloads() {
        let (web, debug) =
            (group(PodOwnerKind::Deployment, "web", "1.31.2"), group(PodOwnerKind::Pod, "debug", UNKNOWN));
        let other = ProxyGroup { revision: "other".into(), ..group(PodOwnerKind::Job, "x", "1.30.0") };
        let shown = strip_str(&table(&[(&web, 12), (&debug, 1), (&other, 1)], &meshes())).to_string();
        let expected = "  NAMESPACE  WORKLOAD        REVISION  VERSION  PODS  OUTDATED
  shop       Deployment/web  default   1.31.2   12    yes, the mesh has 1.32.0
  shop       Pod/debug       default   Unknown  1     unknown
  shop       Job/x           other     1.30.0   1     no mesh with this revision

14 pods with a proxy, 12 outdated
";
        assert_eq!(shown, expected);
        assert_eq!(table(&[], &meshes()), "no pods with a proxy\n");
    }

    #[test]
    fn json_has_the_same_content() {
        let web = group(PodOwnerKind::Deployment, "web", "1.31.2");
        let proxy = json!({"namespace": "shop", "kind": "Deployment", "name": "web", "version": "1.31.2",
            "revision": "default", "meshVersion": "1.32.0", "pods": 2, "outdated": true,
            "staleConfiguration": false});
        assert_eq!(report(&[(&web, 2)], &meshes()), json!({"format": 1, "proxies": [proxy]}));
    }
}
