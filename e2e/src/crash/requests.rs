//! Classification of requests by method and path.

use http::{Method, Uri};

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestVerb {
    /// Reads one object, or a path that is not a resource.
    Get,
    /// Reads all objects of a kind.
    List,
    /// Follows changes of all objects of a kind.
    Watch,
    /// Creates an object, or a review.
    Create,
    /// Replaces an object.
    Update,
    /// Changes an object.
    Patch,
    /// Deletes an object.
    Delete,
}

/// What a request does.
pub(super) fn verb(method: &Method, uri: &Uri) -> RequestVerb {
    match *method {
        Method::POST => RequestVerb::Create,
        Method::PUT => RequestVerb::Update,
        Method::PATCH => RequestVerb::Patch,
        Method::DELETE => RequestVerb::Delete,
        _ if uri.query().is_some_and(|query| query.contains("watch=true")) => RequestVerb::Watch,
        _ if is_collection(uri.path()) => RequestVerb::List,
        _ => RequestVerb::Get,
    }
}

/// Whether the API server may respond with a conflict: not to reads, reviews and pods that are created in a dry run.
pub(super) fn can_conflict(method: &Method, uri: &Uri) -> bool {
    let is_dry = uri.query().is_some_and(|query| query.contains("dryRun=All"));
    match verb(method, uri) {
        RequestVerb::Get | RequestVerb::List | RequestVerb::Watch => false,
        RequestVerb::Create => !is_dry && !resource(uri.path()).ends_with("reviews"),
        RequestVerb::Update | RequestVerb::Patch | RequestVerb::Delete => true,
    }
}

/// Whether a request persists a change. Leases and Events don't count.
pub(super) fn is_write(method: &Method, uri: &Uri) -> bool {
    let changes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method);
    let dry = uri.query().is_some_and(|query| query.contains("dryRun=All"));
    let resource = resource(uri.path());
    changes && !dry && !resource.ends_with("reviews") && !["leases", "events"].contains(&resource)
}

/// Whether a path names an object of the mesh, as opposed to the operator's own objects.
pub(super) fn is_mesh_object(path: &str) -> bool {
    !["meshinstallations", "controllerrevisions"].contains(&resource(path))
}

/// Plural resource name in a path, without the subresource.
pub(super) fn resource(path: &str) -> &str {
    match below_version(path).as_slice() {
        ["namespaces", _, resource, ..] | [resource, ..] => resource,
        [] => "",
    }
}

fn is_collection(path: &str) -> bool {
    matches!(below_version(path).as_slice(), [_] | ["namespaces", _, _])
}

/// The parts of a path after `api/<version>` or `apis/<group>/<version>`.
fn below_version(path: &str) -> Vec<&str> {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let before = if parts.next() == Some("apis") { 2 } else { 1 };
    parts.skip(before).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writes(method: &Method, path: &str) -> bool {
        is_write(method, &path.parse().unwrap())
    }

    #[test]
    fn finds_resource_in_path() {
        assert_eq!(resource("/api/v1/namespaces/shop"), "namespaces");
        assert_eq!(resource("/api/v1/namespaces/shop/services/web"), "services");
        assert_eq!(resource("/apis/apps/v1/namespaces/shop/deployments/web/scale"), "deployments");
        assert_eq!(resource("/apis/rbac.authorization.k8s.io/v1/clusterroles/web"), "clusterroles");
        assert_eq!(resource("/version"), "");
    }

    #[test]
    fn finds_verb_of_request() {
        let verb = |method: &Method, path: &str| verb(method, &path.parse().unwrap());
        assert_eq!(verb(&Method::GET, "/api/v1/pods?watch=true&resourceVersion=3"), RequestVerb::Watch);
        assert_eq!(verb(&Method::GET, "/apis/apps/v1/namespaces/shop/deployments?limit=4"), RequestVerb::List);
        assert_eq!(verb(&Method::GET, "/api/v1/namespaces"), RequestVerb::List);
        assert_eq!(verb(&Method::GET, "/api/v1/namespaces/shop"), RequestVerb::Get);
        assert_eq!(verb(&Method::GET, "/api/v1/nodes/node-1"), RequestVerb::Get);
        assert_eq!(verb(&Method::GET, "/apis"), RequestVerb::Get);
        assert_eq!(verb(&Method::PATCH, "/api/v1/namespaces/shop/services/web"), RequestVerb::Patch);
    }

    #[test]
    fn only_persisted_changes_are_writes() {
        assert!(writes(&Method::PATCH, "/api/v1/namespaces/shop/services/web?force=true&fieldManager=meshwright"));
        assert!(writes(&Method::DELETE, "/api/v1/namespaces/shop/services/web"));
        assert!(!writes(&Method::GET, "/api/v1/namespaces/shop/services/web"));
        assert!(!writes(&Method::POST, "/api/v1/namespaces/shop/pods?dryRun=All"));
        assert!(!writes(&Method::POST, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"));
        assert!(!writes(&Method::PATCH, "/apis/coordination.k8s.io/v1/namespaces/a/leases/b"));
        assert!(!writes(&Method::POST, "/apis/events.k8s.io/v1/namespaces/a/events"));
    }

    #[test]
    fn excludes_operators_own_objects() {
        assert!(!is_mesh_object("/apis/meshwright.dev/v1alpha1/meshinstallations/mesh/status"));
        assert!(!is_mesh_object("/apis/apps/v1/namespaces/a/controllerrevisions/mesh-1"));
        assert!(is_mesh_object("/api/v1/namespaces/istio-system"));
    }
}
