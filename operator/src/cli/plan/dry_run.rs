//! The dry run of a plan: the rejections that the operator would find before its first write, as far as the user of the
//! command may send the same requests.

use std::collections::{BTreeMap, BTreeSet};

use kube::Client;
use meshwright_api::Adoption;

use crate::apply::{DryRunResults, OwnPermissions, dry_run};
use crate::controller::ResolvedRevision;
use crate::mesh::dry_run::{DryRunRejection, DryRunRequest, DryRunSelection, blocker};
use crate::mesh::health::Blocker;
use crate::mesh::kind::Kind;
use crate::mesh::object::ObjectKey;
use crate::mesh::plan::plan;
use crate::mesh::rbac::{Permission, RequiredPermissions, group_by_scope};
use crate::mesh::text::{abbreviate, pluralize};
use crate::planning::objects::{LiveObjects, reduce};
use crate::runtime::requests::api_error_message;

/// The most notes about missing permissions; a user who may write nothing lacks them in every namespace.
const PERMISSION_NOTES: usize = 5;

/// What a dry run adds to a plan.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct DryRunFindings {
    /// The reason why the operator would not start the rollout.
    pub(super) refusal: Option<Blocker>,
    /// What was not checked, and why.
    pub(super) notes: Vec<String>,
}

/// Sends the changed objects of a revision in a dry run. `existing` has the UIDs of all MeshInstallations. Like the
/// operator, it sends nothing while other objects conflict with the revision.
pub(super) async fn check(
    client: &Client,
    resolved: &ResolvedRevision,
    live: &LiveObjects,
    existing: &BTreeSet<String>,
    adoption: Adoption,
) -> DryRunFindings {
    let live = reduce(&resolved.desired, live);
    let prepared = plan(&resolved.desired, &live, &resolved.validated.owner, existing, true, adoption);
    if !prepared.conflicts.is_empty() {
        return DryRunFindings::default();
    }
    let DryRunSelection { requests, not_checked } = DryRunSelection::of(&prepared, &live);
    let mut findings = DryRunFindings { refusal: None, notes: not_checked_note(&not_checked).into_iter().collect() };
    if requests.is_empty() {
        return findings;
    }
    let needed: BTreeSet<Permission> = requests.iter().flat_map(permissions).collect();
    // The namespace is that of an operator's own objects, which this doesn't concern.
    let missing = OwnPermissions::new(client.clone(), "").missing(&RequiredPermissions::of(needed)).await;
    let missing = match missing {
        Ok(missing) => missing,
        Err(error) => {
            findings.notes.push(format!("not checked: reading the permissions failed: {}", api_error_message(&error)));
            return findings;
        }
    };
    findings.notes.extend(permission_notes(&missing));
    let may_send = |request: &DryRunRequest| permissions(request).all(|needed| !missing.contains(&needed));
    let requests: Vec<DryRunRequest> = requests.into_iter().filter(may_send).collect();
    let sent = requests.len();
    let results = dry_run(client, requests).await;
    findings.add(resolved, results, sent);
    findings
}

impl DryRunFindings {
    fn add(&mut self, resolved: &ResolvedRevision, results: DryRunResults, sent: usize) {
        let DryRunResults { accepted, rejected, unsupported, failure } = results;
        if let Some(failure) = failure {
            let open = sent.saturating_sub(accepted.len() + rejected.len() + unsupported.len());
            self.notes.push(format!("not checked: {}, since the dry run failed: {failure}", pluralize(open, "object")));
        }
        if !unsupported.is_empty() {
            let keys: Vec<&ObjectKey> = unsupported.iter().map(|desired| &desired.key).collect();
            self.notes.push(format!("not checked: {}; a dry run can't check these now", abbreviate(&keys)));
        }
        let (about_user, mut rejections): (Vec<_>, Vec<_>) =
            rejected.into_iter().map(|(_, rejection)| rejection).partition(is_about_user);
        if !about_user.is_empty() {
            let keys: Vec<&ObjectKey> = about_user.iter().map(|rejection| &rejection.key).collect();
            self.notes.push(format!(
                "not checked: {}; creating these needs the permissions that they grant, which the operator has",
                abbreviate(&keys)
            ));
        }
        rejections.sort_by(|a, b| a.key.cmp(&b.key));
        self.refusal = blocker(&resolved.inputs.version, &rejections);
    }
}

/// Whether a rejection depends on the user of the command: no client may grant more permissions than it has.
fn is_about_user(rejection: &DryRunRejection) -> bool {
    let kinds = [Kind::ClusterRole, Kind::ClusterRoleBinding, Kind::Role, Kind::RoleBinding];
    kinds.contains(&rejection.key.kind) && rejection.message.contains("attempting to grant RBAC permissions")
}

/// The permissions for one request. A server-side apply of an object that does not exist takes both.
fn permissions(request: &DryRunRequest) -> impl Iterator<Item = Permission> {
    let ObjectKey { kind, namespace, .. } = &request.desired.key;
    let (kind, namespace) = (*kind, namespace.clone());
    let verbs: &[&str] = if request.exists { &["patch"] } else { &["create", "patch"] };
    verbs.iter().map(move |verb| Permission {
        namespace: namespace.clone(),
        group: kind.group().to_owned(),
        resource: kind.plural().to_owned(),
        name: None,
        verb: (*verb).to_owned(),
    })
}

fn permission_notes(missing: &[Permission]) -> Vec<String> {
    let groups = group_by_scope(missing);
    let note = |((scope, verbs), targets): (&(String, Vec<&str>), &Vec<String>)| {
        format!("not checked: needs {} on {} {scope}", verbs.join(" and "), abbreviate(targets))
    };
    let mut notes: Vec<String> = groups.iter().take(PERMISSION_NOTES).map(note).collect();
    let more = groups.len().saturating_sub(PERMISSION_NOTES);
    if more > 0 {
        notes.push(format!("not checked: needs permissions in {more} more cases"));
    }
    notes
}

fn not_checked_note(not_checked: &BTreeMap<ObjectKey, usize>) -> Option<String> {
    let keys: Vec<&ObjectKey> = not_checked.keys().collect();
    let objects = pluralize(not_checked.values().sum(), "object");
    let note = format!("not checked: {objects} that can be created only after {}", abbreviate(&keys));
    (!keys.is_empty()).then_some(note)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use meshwright_api::conditions::Reason;
    use semver::Version;
    use serde_json::json;

    use super::super::notes::tests::resolved;
    use super::*;
    use crate::apply::ErrorClass;
    use crate::mesh::object::{Component, DesiredObject, Owner};

    fn object(api_version: &str, kind: &str, name: &str) -> Arc<DesiredObject> {
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: Version::new(1, 31, 2) };
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}});
        Arc::new(DesiredObject::from_rendered(object, &Component::Istiod, &owner, "istio-system").unwrap())
    }

    fn rejected(desired: &Arc<DesiredObject>, message: &str) -> (Arc<DesiredObject>, DryRunRejection) {
        let (key, message) = (desired.key.clone(), message.to_owned());
        (Arc::clone(desired), DryRunRejection { key, class: ErrorClass::Forbidden, message })
    }

    #[test]
    fn names_missing_permissions_by_namespace() {
        let request = |kind: &str, exists| DryRunRequest { desired: object("v1", kind, "istio"), exists };
        let all = [request("ConfigMap", true), request("Service", false), request("Namespace", true)];
        let missing: BTreeSet<Permission> = all.iter().flat_map(permissions).collect();
        let notes = permission_notes(&missing.into_iter().collect::<Vec<_>>());
        let expected = [
            "not checked: needs create and patch on services in namespace istio-system",
            "not checked: needs patch on configmaps in namespace istio-system",
            "not checked: needs patch on namespaces in the whole cluster",
        ];
        assert_eq!(notes, expected);
    }

    #[test]
    fn limits_notes_about_permissions() {
        let missing = |n: usize| Permission {
            namespace: Some(format!("gateway-{n}")),
            group: String::new(),
            resource: "services".into(),
            name: None,
            verb: "patch".into(),
        };
        let notes = permission_notes(&(0..40).map(missing).collect::<Vec<_>>());
        assert_eq!(notes.len(), PERMISSION_NOTES + 1);
        assert!(notes.last().is_some_and(|note| note.contains("35 more")), "{notes:?}");
    }

    #[test]
    fn names_objects_to_wait_for() {
        let key = object("v1", "Namespace", "istio-system").key.clone();
        let note = not_checked_note(&[(key, 3)].into()).unwrap();
        assert_eq!(note, "not checked: 3 objects that can be created only after Namespace istio-system");
        assert_eq!(not_checked_note(&BTreeMap::new()), None);
    }

    #[test]
    fn distinguishes_rejections_of_object_and_user() {
        let role = object("rbac.authorization.k8s.io/v1", "ClusterRole", "istiod");
        let map = object("v1", "ConfigMap", "istio");
        let escalation = rejected(&role, "user \"dev\" is attempting to grant RBAC permissions not currently held");
        let mut findings = DryRunFindings::default();
        let results = DryRunResults { rejected: vec![escalation.clone()], ..DryRunResults::default() };
        findings.add(&resolved(1, "sha256:1"), results, 1);
        assert_eq!(findings.refusal, None);
        assert!(findings.notes[0].contains("ClusterRole istiod"), "{:?}", findings.notes);
        let mut findings = DryRunFindings::default();
        let rejected = vec![escalation, rejected(&map, "applying ConfigMap istio-system/istio failed: denied")];
        findings.add(&resolved(1, "sha256:1"), DryRunResults { rejected, ..DryRunResults::default() }, 2);
        let refusal = findings.refusal.unwrap();
        assert_eq!(refusal.reason, Reason::Forbidden);
        assert!(
            refusal
                .message
                .ends_with("was rejected. Nothing was written: applying ConfigMap istio-system/istio failed: denied")
        );
    }

    #[test]
    fn reports_objects_without_response() {
        let mut findings = DryRunFindings::default();
        let accepted = vec![object("v1", "ConfigMap", "istio")];
        let results = DryRunResults { accepted, failure: Some("timeout".into()), ..DryRunResults::default() };
        findings.add(&resolved(1, "sha256:1"), results, 3);
        assert_eq!(findings.notes, ["not checked: 2 objects, since the dry run failed: timeout"]);
        assert_eq!(findings.refusal, None);
    }
}
