//! Classification of requests by method and path.

use http::{Method, Uri};

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
fn resource(path: &str) -> &str {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    // `api/<version>` or `apis/<group>/<version>`.
    let before = if parts.next() == Some("apis") { 2 } else { 1 };
    let rest: Vec<&str> = parts.skip(before).collect();
    match rest.as_slice() {
        ["namespaces", _, resource, ..] | [resource, ..] => resource,
        [] => "",
    }
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
