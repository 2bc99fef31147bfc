//! What a request returns, by its path and query, and the limits for that.

use axum::http::{Method, Uri};

use super::item::ItemLimits;
use super::scanner::{BodyFormat, ListBudget};

/// Limits of an object. The API server itself accepts up to 3 MiB, and etcd 1.5 MiB.
const ITEM_LIMITS: ItemLimits =
    ItemLimits { bytes: 512 * 1024, values: 16_384, depth: 64, managed_fields: true, is_reduced: false };
/// Limits of a pod in a list or watch: there are many, in large pages, and only their metadata and images are read.
const POD_LIMITS: ItemLimits = ItemLimits { bytes: 128 * 1024, managed_fields: false, ..ITEM_LIMITS };
/// Limits of objects that only cluster administrators and the operator can write.
const TRUSTED_LIMITS: ItemLimits = ItemLimits { bytes: 2 << 20, values: 65_536, ..ITEM_LIMITS };
/// Resources with such objects.
const TRUSTED: [&str; 7] = [
    "clusterrolebindings",
    "clusterroles",
    "controllerrevisions",
    "customresourcedefinitions",
    "mutatingwebhookconfigurations",
    "nodes",
    "validatingwebhookconfigurations",
];
/// The operator's own resource. A reconcile needs all of its fields, also if other objects of the list take much.
const OWN: &str = "meshinstallations";
/// What the objects of a page may take together; pages of several kinds are read at the same time.
const PAGE_BYTES: usize = 2 << 20;
/// The same in values.
const PAGE_VALUES: usize = 49_152;
/// The same for objects of which only a few fields are parsed.
const PARTIAL_PAGE_VALUES: usize = 1_000_000;
/// Resources of which all objects are listed, and only a few fields are parsed.
const PARTIAL: [&str; 4] = ["daemonsets", "deployments", "pods", "statefulsets"];

/// What a request returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestTarget<'p> {
    pub(super) resource: &'p str,
    pub(super) format: BodyFormat,
    is_namespaced: bool,
    is_of_mesh: bool,
    page: Option<usize>,
}

impl<'p> RequestTarget<'p> {
    /// `None` if the request doesn't return objects.
    pub(super) fn of(method: &Method, uri: &'p Uri) -> Option<Self> {
        let mut segments = uri.path().split('/').filter(|segment| !segment.is_empty());
        let root = segments.find(|segment| matches!(*segment, "api" | "apis"))?;
        let segments: Vec<&str> = segments.skip(if root == "api" { 1 } else { 2 }).collect();
        let (is_namespaced, resource, rest) = match segments.as_slice() {
            ["namespaces", _, resource, rest @ ..] => (true, *resource, rest),
            [resource, rest @ ..] => (false, *resource, rest),
            [] => return None,
        };
        let parameter = |name: &str| {
            let mut parameters = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
            parameters.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let format = match rest {
            [] if method == Method::GET && parameter("watch") == Some("true") => BodyFormat::Watch,
            [] if method == Method::GET => BodyFormat::List,
            [] | [_] | [_, "status" | "scale"] => BodyFormat::Object,
            _ => return None,
        };
        let is_of_mesh = parameter("labelSelector").is_some_and(|selector| selector.contains("meshwright.dev"));
        let page = parameter("limit").and_then(|limit| limit.parse().ok());
        Some(Self { resource, format, is_namespaced, is_of_mesh, page })
    }

    /// Limits of each object.
    pub(super) fn limits(self) -> ItemLimits {
        match self.resource {
            "pods" if self.format != BodyFormat::Object => POD_LIMITS,
            resource if TRUSTED.contains(&resource) => TRUSTED_LIMITS,
            _ => ITEM_LIMITS,
        }
    }

    /// Limits of all objects of a page.
    pub(super) fn budget(self) -> Option<ListBudget> {
        let is_bounded = self.format == BodyFormat::List && !TRUSTED.contains(&self.resource) && self.resource != OWN;
        let page = self.page.filter(|_| is_bounded)?;
        let page = page.max(1);
        let is_partial = PARTIAL.contains(&self.resource) && !self.is_namespaced && !self.is_of_mesh;
        let values = if is_partial { PARTIAL_PAGE_VALUES } else { PAGE_VALUES };
        Some(ListBudget {
            bytes: PAGE_BYTES,
            values,
            // Twice the average, so that a few large objects don't hide the usual ones.
            item_bytes: 2 * PAGE_BYTES / page,
            item_values: values / page,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(method: &Method, uri: &'static str) -> Option<(String, BodyFormat, bool)> {
        let uri = Uri::from_static(uri);
        let target = RequestTarget::of(method, &uri)?;
        Some((target.resource.to_owned(), target.format, target.is_namespaced))
    }

    #[test]
    fn format_follows_from_path_and_method() {
        for (method, uri, expected) in [
            (Method::GET, "/api/v1/pods?limit=100", Some(("pods", BodyFormat::List, false))),
            (Method::GET, "/api/v1/pods?limit=1&watch=true", Some(("pods", BodyFormat::Watch, false))),
            (Method::GET, "/api/v1/namespaces/watch/pods?", Some(("pods", BodyFormat::List, true))),
            (Method::GET, "/apis/apps/v1/namespaces/a/deployments/b", Some(("deployments", BodyFormat::Object, true))),
            (Method::PATCH, "/apis/a.dev/v1/as/b/status", Some(("as", BodyFormat::Object, false))),
            (Method::POST, "/api/v1/namespaces/a/pods?dryRun=All", Some(("pods", BodyFormat::Object, true))),
            (Method::GET, "/api/v1/namespaces/a", Some(("namespaces", BodyFormat::Object, false))),
            (Method::GET, "/k8s/clusters/c/apis/a.dev/v1/as", Some(("as", BodyFormat::List, false))),
            (Method::GET, "/api/v1/namespaces/a/pods/b/log", None),
            (Method::GET, "/apis/apps/v1", None),
            (Method::GET, "/version", None),
        ] {
            let expected = expected.map(|(resource, format, namespaced)| (resource.to_owned(), format, namespaced));
            assert_eq!(target(&method, uri), expected, "{uri}");
        }
    }

    fn budget(uri: &'static str) -> Option<ListBudget> {
        RequestTarget::of(&Method::GET, &Uri::from_static(uri)).unwrap().budget()
    }

    #[test]
    fn usual_objects_fit_into_any_page() {
        // Pods with a proxy have about 20 KiB, and 60 KiB with many containers or long annotations; workloads about 10 KiB, Services and Events about 3 KiB.
        for (uri, bytes, values) in [
            (
                "/api/v1/pods?fieldSelector=status.phase%21%3DFailed&labelSelector=service.istio.io%2Fcanonical-name&limit=64",
                60 << 10,
                10_000,
            ),
            ("/api/v1/pods?labelSelector=service.istio.io%2Fcanonical-name&limit=50", 60 << 10, 10_000),
            ("/apis/apps/v1/deployments?limit=100", 10 << 10, 2000),
            ("/apis/apps/v1/deployments?limit=50&labelSelector=meshwright.dev%2Finstallation", 10 << 10, 900),
            ("/api/v1/services?limit=50", 3 << 10, 200),
            ("/api/v1/namespaces/a/events?limit=200", 3 << 10, 200),
        ] {
            let budget = budget(uri).unwrap();
            assert!(budget.item_bytes >= bytes && budget.item_values >= values, "{uri}: {budget:?}");
        }
    }

    #[test]
    fn only_pages_have_budget() {
        for uri in [
            "/api/v1/pods",
            "/api/v1/namespaces/a/pods/b?limit=5",
            "/api/v1/pods?limit=5&watch=true",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?limit=4",
            "/apis/meshwright.dev/v1alpha1/meshinstallations?limit=500",
        ] {
            assert_eq!(budget(uri), None, "{uri}");
        }
        assert_eq!(budget("/api/v1/pods?limit=0").unwrap().item_bytes, 2 * PAGE_BYTES);
    }
}
