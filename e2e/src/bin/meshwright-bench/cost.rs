//! The operator's API requests, counted from the audit log.

use std::fmt;

use meshwright_e2e::audit::{Audit, AuditEntry};
use meshwright_e2e::mesh::OPERATOR;

/// Requests by kind, without those for the Lease and the start of watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cost {
    /// Writes to objects of the mesh.
    pub(crate) objects: usize,
    /// Writes to the status of the installation.
    pub(crate) status: usize,
    /// Writes to the installation's finalizer.
    pub(crate) finalizer: usize,
    /// Writes to `ControllerRevisions`.
    pub(crate) revision: usize,
    pub(crate) events: usize,
    /// Dry runs before the first write, and of the injection check.
    pub(crate) dry_runs: usize,
    pub(crate) reads: usize,
    /// Writes that the server rejected.
    pub(crate) rejected: usize,
}

/// The operator's requests that count.
pub(crate) fn requests(audit: &Audit) -> impl Iterator<Item = &AuditEntry> {
    audit.by(OPERATOR).filter(|entry| entry.resource != "leases" && entry.verb != "watch")
}

/// Whether this is an accepted write to an object of the mesh.
pub(crate) fn is_mesh_write(entry: &AuditEntry) -> bool {
    let own = ["meshinstallations", "meshinstallations/status", "controllerrevisions", "events", "leases"];
    entry.is_write() && entry.code < 300 && !own.contains(&entry.resource.as_str())
}

impl Cost {
    pub(crate) fn of(audit: &Audit) -> Self {
        let mut cost = Self::default();
        for entry in requests(audit) {
            let count = match entry.resource.as_str() {
                _ if entry.uri.contains("dryRun=All") => &mut cost.dry_runs,
                _ if !entry.is_write() => &mut cost.reads,
                _ if entry.code >= 300 => &mut cost.rejected,
                "meshinstallations/status" => &mut cost.status,
                "meshinstallations" => &mut cost.finalizer,
                "controllerrevisions" => &mut cost.revision,
                "events" => &mut cost.events,
                _ => &mut cost.objects,
            };
            *count += 1;
        }
        cost
    }

    /// Accepted writes without Events.
    pub(crate) fn writes(&self) -> usize {
        self.objects + self.own()
    }

    /// Accepted writes that aren't to objects of the mesh.
    pub(crate) fn own(&self) -> usize {
        self.status + self.finalizer + self.revision
    }

    /// How many requests, reads and writes.
    pub(crate) fn requests(&self) -> usize {
        self.writes() + self.events + self.dry_runs + self.reads + self.rejected
    }
}

impl fmt::Display for Cost {
    /// Lists the kinds that occur.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.objects, "objects"),
            (self.status, "status"),
            (self.finalizer, "finalizer"),
            (self.revision, "revision"),
            (self.events, "events"),
            (self.dry_runs, "dry runs"),
            (self.reads, "reads"),
            (self.rejected, "rejected"),
        ];
        let named: Vec<_> =
            parts.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
        f.write_str(&if named.is_empty() { "none".to_owned() } else { named.join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(n: usize, user: &str, verb: &str, resource: &str, uri: &str, code: i32) -> String {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        format!(
            r#"{{"auditID":"{n}","stage":"ResponseComplete","verb":"{verb}","user":{{"username":"{user}"}},"requestURI":"{uri}","objectRef":{{"resource":"{resource}","subresource":"{subresource}"}},"responseStatus":{{"code":{code}}}}}"#
        )
    }

    #[test]
    fn counts_requests_by_kind() {
        let log = [
            line(1, OPERATOR, "patch", "services", "/x", 201),
            line(2, OPERATOR, "patch", "meshinstallations/status", "/x", 200),
            line(3, OPERATOR, "patch", "meshinstallations", "/x", 200),
            line(4, OPERATOR, "create", "controllerrevisions", "/x", 201),
            line(5, OPERATOR, "create", "pods", "/x?dryRun=All", 201),
            line(6, OPERATOR, "create", "events", "/x", 201),
            line(7, OPERATOR, "patch", "leases", "/x", 200),
            line(8, OPERATOR, "watch", "services", "/x", 200),
            line(9, OPERATOR, "patch", "services", "/x", 409),
            line(10, OPERATOR, "get", "services", "/x", 404),
            line(11, "admin", "patch", "services", "/x", 200),
        ];
        let cost = Cost::of(&Audit::parse(&log.join("\n")));
        let expected =
            Cost { objects: 1, status: 1, finalizer: 1, revision: 1, events: 1, dry_runs: 1, reads: 1, rejected: 1 };
        assert_eq!(cost, expected);
        assert_eq!((cost.writes(), cost.own(), cost.requests()), (4, 3, 8));
        assert!(cost.to_string().starts_with("1 objects, 1 status"));
    }
}
