//! What the API server's audit log says about who did what.

use jiff::Timestamp;
use serde::Deserialize;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// For example `system:serviceaccount:meshwright-system:meshwright`.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// API group; empty for the core group and for requests that aren't about a resource.
    pub group: String,
    /// Version of the API group.
    pub version: String,
    /// Plural resource name, with the subresource after a slash: `deployments/status`. Empty for paths such as `/readyz`.
    pub resource: String,
    /// Namespace, empty for cluster-scoped objects.
    pub namespace: String,
    /// Object's name, empty where the request names none (lists, and creations by generated name).
    pub name: String,
    /// The whole path with its query.
    pub uri: String,
    /// HTTP status of the answer.
    pub code: i32,
    /// When the server had the request.
    pub received: Timestamp,
    /// When it had answered; for a watch, when it began to.
    pub answered: Timestamp,
}

impl Entry {
    /// Whether it was to change something that is kept: dry runs, and reviews of tokens and rights, don't.
    #[must_use]
    pub fn is_write(&self) -> bool {
        let changes = ["create", "update", "patch", "delete", "deletecollection"].contains(&self.verb.as_str());
        let question = matches!(self.group.as_str(), "authentication.k8s.io" | "authorization.k8s.io")
            || self.resource == "serviceaccounts/token";
        changes && !question && !self.uri.contains("dryRun=All")
    }
}

/// The entries of an audit log, in the order in which they were answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    entries: Vec<Entry>,
}

/// A place in the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mark(usize);

impl Audit {
    /// Reads a log: one JSON event a line. A last line that is still being written is left out.
    #[must_use]
    pub fn parse(log: &str) -> Self {
        let mut entries = Vec::new();
        let mut watching = std::collections::BTreeSet::new();
        for event in log.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok()) {
            // A watch is named when it starts and again when it ends.
            let again = event.stage == "ResponseComplete" && watching.remove(&event.audit_id);
            if event.stage == "ResponseStarted" {
                watching.insert(event.audit_id.clone());
            }
            if !again {
                entries.push(event.into());
            }
        }
        Self { entries }
    }

    /// Everything that was asked of the server.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The end of what has been read, to be given to [`Self::since`] on a later reading.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.entries.len())
    }

    /// Only what came after `mark`.
    #[must_use]
    pub fn since(&self, mark: Mark) -> Self {
        Self { entries: self.entries.iter().skip(mark.0).cloned().collect() }
    }

    /// The requests of one user, for example a ServiceAccount.
    pub fn by<'a>(&'a self, user: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| entry.user == user)
    }

    /// The writes of one user that the server accepted, without those to Leases, by which leaders are elected.
    pub fn writes<'a>(&'a self, user: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.by(user).filter(|entry| entry.is_write() && entry.code < 300 && entry.resource != "leases")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "auditID")]
    audit_id: String,
    stage: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: Identity,
    object_ref: Option<Object>,
    response_status: Option<Answer>,
    #[serde(default, rename = "requestReceivedTimestamp")]
    received: Timestamp,
    #[serde(default, rename = "stageTimestamp")]
    answered: Timestamp,
}

#[derive(Deserialize)]
struct Identity {
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Object {
    resource: String,
    subresource: String,
    api_group: String,
    api_version: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    code: i32,
}

impl From<Event> for Entry {
    fn from(event: Event) -> Self {
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
            answered: event.answered,
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
    fn a_watch_counts_once() {
        let log = [
            line("1", "ResponseStarted", "watch", "a", "pods", "/api/v1/pods?watch=true", 200),
            line("1", "ResponseComplete", "watch", "a", "pods", "/api/v1/pods?watch=true", 200),
        ];
        assert_eq!(Audit::parse(&log.join("\n")).entries().len(), 1);
    }

    #[test]
    fn dry_runs_leases_refusals_and_other_users_are_no_writes() {
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
    fn what_came_before_the_mark_is_left_out() {
        let first = line("1", "ResponseComplete", "patch", "a", "services", "/x", 200);
        let second = line("2", "ResponseComplete", "patch", "a", "pods", "/x", 200);
        let mark = Audit::parse(&first).mark();
        let later = Audit::parse(&format!("{first}\n{second}\n{{\"unfinished")).since(mark);
        assert_eq!(later.entries().len(), 1);
        assert_eq!(later.entries()[0].resource, "pods");
    }
}
