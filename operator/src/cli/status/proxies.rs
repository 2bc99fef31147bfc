//! `meshwright status --proxies`: every workload with a proxy, as the pods show it now.

use std::collections::BTreeMap;
use std::process::ExitCode;

use kube::Client;
use meshwright_api::MeshInstallation;
use serde_json::{Value, json};

use super::sheet::{Cell, Row, Sheet};
use super::show::Screen;
use super::text::{CARE, PLAIN, clean};
use super::{StatusError, observed};
use crate::mesh::revisions::Revision;
use crate::proxies::{Group, UNKNOWN, list};

/// Of the JSON form; rises when a field changes its meaning or goes.
const FORMAT: u8 = 1;

/// The version that runs of each mesh, by the revision that its proxies have.
type Meshes<'a> = BTreeMap<String, Option<&'a str>>;

/// Lists pods and shows their proxies, each beside the version of its mesh. `only`: those of these meshes alone.
pub(super) async fn show(
    client: &Client,
    meshes: &[MeshInstallation],
    only: bool,
    json: bool,
) -> Result<ExitCode, StatusError> {
    let census = list(client).await.map_err(|error| StatusError::ListPods(Box::new(error)))?;
    let running = |mesh| observed(mesh).and_then(|status| status.version.running.as_deref());
    let meshes: Meshes<'_> =
        meshes.iter().flat_map(|mesh| names(mesh).into_iter().map(move |name| (name, running(mesh)))).collect();
    let mut groups: Vec<(&Group, usize)> =
        census.groups().filter(|(group, _)| !only || meshes.contains_key(&*group.revision)).collect();
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

/// The names that a mesh's control planes have as revisions.
fn names(mesh: &MeshInstallation) -> Vec<String> {
    let told = observed(mesh).map(|status| &status.version);
    let own = Revision::of(&mesh.spec).label().to_owned();
    let named = told.into_iter().flat_map(|told| told.revision.iter().chain(&told.retiring).cloned());
    std::iter::once(own).chain(named).collect()
}

/// The version of the mesh that injected these proxies.
fn mesh<'a>(group: &Group, meshes: &Meshes<'a>) -> Option<&'a str> {
    meshes.get(&*group.revision).copied().flatten()
}

fn is_outdated(group: &Group, meshes: &Meshes<'_>) -> bool {
    mesh(group, meshes).is_some_and(|running| group.is_outdated(running))
}

fn report(groups: &[(&Group, usize)], meshes: &Meshes<'_>) -> Value {
    let proxy = |(group, pods): &(&Group, usize)| {
        json!({
            "namespace": *group.namespace,
            "kind": group.owner.kind.to_string(),
            "name": *group.owner.name,
            "version": *group.version,
            "revision": *group.revision,
            "meshVersion": mesh(group, meshes),
            "pods": pods,
            "outdated": is_outdated(group, meshes),
        })
    };
    json!({"format": FORMAT, "proxies": groups.iter().map(proxy).collect::<Vec<_>>()})
}

fn table(groups: &[(&Group, usize)], meshes: &Meshes<'_>) -> String {
    let mut sheet = Sheet::new(usize::MAX);
    if groups.is_empty() {
        sheet.line("no pod has a proxy");
        return sheet.finish();
    }
    let rows: Vec<Row> = groups.iter().map(|(group, pods)| row(group, *pods, meshes)).collect();
    sheet.table(&["NAMESPACE", "WORKLOAD", "REVISION", "VERSION", "PODS", "OUTDATED"], &rows);
    let all: usize = groups.iter().map(|(_, pods)| pods).sum();
    let outdated: usize = groups.iter().filter(|(group, _)| is_outdated(group, meshes)).map(|(_, pods)| pods).sum();
    sheet.blank();
    sheet.line(&format!("{all} pods with a proxy, {outdated} of them outdated"));
    sheet.finish()
}

fn row(group: &Group, pods: usize, meshes: &Meshes<'_>) -> Row {
    let (style, outdated) = match mesh(group, meshes) {
        _ if *group.version == *UNKNOWN => (CARE, "unknown".to_owned()),
        Some(running) if group.is_outdated(running) => (CARE, format!("yes, the mesh runs {}", clean(running))),
        Some(_) => (PLAIN, "no".to_owned()),
        None => (PLAIN, "no mesh of this revision is known".to_owned()),
    };
    let cells = vec![
        Cell::new(clean(&group.namespace)),
        Cell::new(clean(&format!("{}/{}", group.owner.kind, group.owner.name))),
        Cell::new(clean(&group.revision)),
        Cell::new(clean(&group.version)),
        Cell::new(pods.to_string()),
        Cell::styled(style, outdated),
    ];
    Row { cells, note: None }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;
    use crate::proxies::{Owner, OwnerKind};

    fn group(kind: OwnerKind, name: &str, version: &str) -> Group {
        let owner = Owner { kind, name: name.into() };
        Group { namespace: "shop".into(), owner, version: version.into(), revision: "default".into() }
    }

    fn meshes() -> Meshes<'static> {
        [("default".to_owned(), Some("1.32.0")), ("new".to_owned(), None)].into()
    }

    #[test]
    fn each_workload_is_shown_with_what_is_behind() {
        let (web, debug) = (group(OwnerKind::Deployment, "web", "1.31.2"), group(OwnerKind::Pod, "debug", UNKNOWN));
        let foreign = Group { revision: "other".into(), ..group(OwnerKind::Job, "x", "1.30.0") };
        let shown = strip_str(&table(&[(&web, 12), (&debug, 1), (&foreign, 1)], &meshes())).to_string();
        let expected = "  NAMESPACE  WORKLOAD        REVISION  VERSION  PODS  OUTDATED
  shop       Deployment/web  default   1.31.2   12    yes, the mesh runs 1.32.0
  shop       Pod/debug       default   Unknown  1     unknown
  shop       Job/x           other     1.30.0   1     no mesh of this revision is known

14 pods with a proxy, 12 of them outdated
";
        assert_eq!(shown, expected);
        assert_eq!(table(&[], &meshes()), "no pod has a proxy\n");
    }

    #[test]
    fn programs_read_the_same() {
        let web = group(OwnerKind::Deployment, "web", "1.31.2");
        let proxy = json!({"namespace": "shop", "kind": "Deployment", "name": "web", "version": "1.31.2",
            "revision": "default", "meshVersion": "1.32.0", "pods": 2, "outdated": true});
        assert_eq!(report(&[(&web, 2)], &meshes()), json!({"format": 1, "proxies": [proxy]}));
    }
}
