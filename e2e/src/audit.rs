//! Parser for the API server's audit log.

use jiff::Timestamp;
use serde::Deserialize;

/// One request to the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// For example `system:serviceaccount:meshwright-system:meshwright`.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// API group; empty for the core group and for requests that aren't about a resource.
    pub group: String,
    /// Version of the API group.
    pub version: String,
    /// Plural resource name, with the subresource after a slash: `deployments/status`. Empty for paths such as
    /// `/readyz`.
    pub resource: String,
    /// Namespace, empty for cluster-scoped objects.
    pub namespace: String,
    /// The name in `ObjectRef`, empty where the request names none (lists, and creations by generated name).
    pub name: String,
    /// Request path including the query.
    pub uri: String,
    /// HTTP status of the response.
    pub code: i32,
    /// When the server received the request.
    pub received: Timestamp,
    /// When the server sent the response; for a watch, when it started to.
    pub completed: Timestamp,
}

impl AuditEntry {
    /// Whether the request persists a change. Dry runs, token requests and access reviews don't.
    #[must_use]
    pub fn is_write(&self) -> bool {
        let changes = ["create", "update", "patch", "delete", "deletecollection"].contains(&self.verb.as_str());
        let review = matches!(self.group.as_str(), "authentication.k8s.io" | "authorization.k8s.io")
            || self.resource == "serviceaccounts/token";
        changes && !review && !self.uri.contains("dryRun=All")
    }
}

/// The entries of an audit log, in the order of their responses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    entries: Vec<AuditEntry>,
}

/// Number of audit entries that a caller has already read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct AuditPosition(usize);

impl Audit {
    /// Parses a log with one JSON event per line. Skips an incomplete last line.
    #[must_use]
    pub fn parse(log: &str) -> Self {
        let mut entries = Vec::new();
        let mut watches = std::collections::BTreeSet::new();
        for event in log.lines().filter_map(|line| serde_json::from_str::<AuditEvent>(line).ok()) {
            // The log has two events for a watch: at its start and at its end.
            let duplicate = event.stage == "ResponseComplete" && watches.remove(&event.audit_id);
            if event.stage == "ResponseStarted" {
                watches.insert(event.audit_id.clone());
            }
            if !duplicate {
                entries.push(event.into());
            }
        }
        Self { entries }
    }

    /// All requests, reads and writes.
    #[must_use]
    pub fn entries(&self) -> &[AuditEntry] {
        &self.entries
    }

    /// The current end of the log, for [`Self::since`] on a later read.
    #[must_use]
    pub fn position(&self) -> AuditPosition {
        AuditPosition(self.entries.len())
    }

    /// Only the entries after `position`.
    #[must_use]
    pub fn since(&self, position: AuditPosition) -> Self {
        Self { entries: self.entries.iter().skip(position.0).cloned().collect() }
    }

    /// Requests of one user, for example a ServiceAccount.
    pub fn by<'a>(&'a self, user: &'a str) -> impl Iterator<Item = &'a AuditEntry> {
        self.entries.iter().filter(move |entry| entry.user == user)
    }

    /// Accepted writes of one user, without leader election's Leases.
    pub fn writes<'a>(&'a self, user: &'a str) -> impl Iterator<Item = &'a AuditEntry> {
        self.by(user).filter(|entry| entry.is_write() && entry.code < 300 && entry.resource != "leases")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuditEvent {
    #[serde(rename = "auditID")]
    audit_id: String,
    stage: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: UserInfo,
    object_ref: Option<ObjectRef>,
    response_status: Option<ResponseStatus>,
    #[serde(default, rename = "requestReceivedTimestamp")]
    received: Timestamp,
    #[serde(default, rename = "stageTimestamp")]
    completed: Timestamp,
}

#[derive(Deserialize)]
struct UserInfo {
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    api_group: String,
    api_version: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
struct ResponseStatus {
    #[serde(default)]
    code: i32,
}

impl From<AuditEvent> for AuditEntry {
    fn from(event: AuditEvent) -> Self {
        let object = event.object_ref.unwrap_or_default();
        let resource = if object.subresource.is_empty() {
            object.resource
        } else {
            format!("{}/{}", object.resource, object.subresource)
        };
        Self {
            user: event.user.username,
            verb: event.verb,
            group: object.api_group,
            version: object.api_version,
            resource,
            namespace: object.namespace,
            name: object.name,
            uri: event.request_uri,
            code: event.response_status.map_or(0, |answer| answer.code),
            received: event.received,
            completed: event.completed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, stage: &str, verb: &str, user: &str, resource: &str, uri: &str, code: i32) -> String {
        serde_json::json!({
            "auditID": id, "stage": stage, "verb": verb, "user": {"username": user}, "requestURI": uri,
            "objectRef": {"resource": resource, "namespace": "shop", "name": "web"}, "responseStatus": {"code": code},
        })
        .to_string()
    }

    #[test]
    fn counts_watch_once() {
        let log = [
            line("1", "ResponseStarted", "watch", "a", "pods", "/api/v1/pods?watch=true", 200),
            line("1", "ResponseComplete", "watch", "a", "pods", "/api/v1/pods?watch=true", 200),
        ];
        assert_eq!(Audit::parse(&log.join("\n")).entries().len(), 1);
    }

    #[test]
    fn excludes_dry_runs_leases_and_rejected_writes() {
        let log = [
            line("1", "ResponseComplete", "create", "a", "pods", "/api/v1/namespaces/shop/pods?dryRun=All", 201),
            line("2", "ResponseComplete", "patch", "a", "leases", "/x", 200),
            line("3", "ResponseComplete", "create", "a", "pods", "/x", 403),
            line("4", "ResponseComplete", "create", "b", "pods", "/x", 201),
            line("5", "ResponseComplete", "get", "a", "pods", "/x", 200),
            line("6", "ResponseComplete", "patch", "a", "services", "/x", 200),
        ];
        let audit = Audit::parse(&log.join("\n"));
        let writes: Vec<_> = audit.writes("a").map(|entry| entry.resource.as_str()).collect();
        assert_eq!(writes, ["services"]);
    }

    #[test]
    fn since_skips_earlier_entries() {
        let first = line("1", "ResponseComplete", "patch", "a", "services", "/x", 200);
        let second = line("2", "ResponseComplete", "patch", "a", "pods", "/x", 200);
        let position = Audit::parse(&first).position();
        let later = Audit::parse(&format!("{first}\n{second}\n{{\"unfinished")).since(position);
        assert_eq!(later.entries().len(), 1);
        assert_eq!(later.entries()[0].resource, "pods");
    }
}
