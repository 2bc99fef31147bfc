//! Which requests are writes, and of what: judged by what is asked for, before there is an answer. Pure.

use http::{Method, Uri};

/// Whether a request is to change something that is kept. Leases and Events are left out: they are no part of any work.
pub(super) fn is_write(method: &Method, uri: &Uri) -> bool {
    let changes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method);
    let dry = uri.query().is_some_and(|query| query.contains("dryRun=All"));
    let resource = resource(uri.path());
    changes && !dry && !resource.ends_with("reviews") && !["leases", "events"].contains(&resource)
}

/// Whether it is about an object of the mesh, and not about what the operator keeps for itself.
pub(super) fn is_of_mesh(path: &str) -> bool {
    !["meshinstallations", "controllerrevisions"].contains(&resource(path))
}

/// The plural of what a path names, without a subresource.
fn resource(path: &str) -> &str {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    // "api" and a version, or "apis", a group and a version.
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
    fn the_resource_is_found_in_any_path() {
        assert_eq!(resource("/api/v1/namespaces/shop"), "namespaces");
        assert_eq!(resource("/api/v1/namespaces/shop/services/web"), "services");
        assert_eq!(resource("/apis/apps/v1/namespaces/shop/deployments/web/scale"), "deployments");
        assert_eq!(resource("/apis/rbac.authorization.k8s.io/v1/clusterroles/web"), "clusterroles");
        assert_eq!(resource("/version"), "");
    }

    #[test]
    fn what_changes_nothing_that_is_kept_is_no_write() {
        assert!(writes(&Method::PATCH, "/api/v1/namespaces/shop/services/web?force=true&fieldManager=meshwright"));
        assert!(writes(&Method::DELETE, "/api/v1/namespaces/shop/services/web"));
        assert!(!writes(&Method::GET, "/api/v1/namespaces/shop/services/web"));
        assert!(!writes(&Method::POST, "/api/v1/namespaces/shop/pods?dryRun=All"));
        assert!(!writes(&Method::POST, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"));
        assert!(!writes(&Method::PATCH, "/apis/coordination.k8s.io/v1/namespaces/a/leases/b"));
        assert!(!writes(&Method::POST, "/apis/events.k8s.io/v1/namespaces/a/events"));
    }

    #[test]
    fn what_the_operator_keeps_is_not_of_the_mesh() {
        assert!(!is_of_mesh("/apis/meshwright.dev/v1alpha1/meshinstallations/mesh/status"));
        assert!(!is_of_mesh("/apis/apps/v1/namespaces/a/controllerrevisions/mesh-1"));
        assert!(is_of_mesh("/api/v1/namespaces/istio-system"));
    }
}
