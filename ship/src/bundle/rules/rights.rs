//! What the operator runs as, and what it may do.

use serde_json::Value;

use super::super::{Bundle, is_true, list, text, texts};
use super::{Origin, Rule, unless};

pub(super) const RULES: &[Rule] = &[
    Rule::warning("containers-request-resources", Origin::Framework, containers_request_resources),
    Rule::warning("no-rights-to-crds", Origin::Framework, no_rights_to_crds),
    Rule::error("no-rights-to-default-sccs", Origin::Framework, no_rights_to_default_sccs),
    Rule::error("no-rights-to-removed-apis", Origin::Framework, no_rights_to_removed_apis),
    Rule::error("rights-are-of-the-deployments-account", Origin::Own, rights_are_of_the_account),
    Rule::error("no-way-to-more-rights", Origin::Own, no_way_to_more_rights),
    Rule::error("pods-are-restricted", Origin::Own, pods_are_restricted),
];

fn containers_request_resources(bundle: &Bundle) -> Vec<String> {
    let asks = |container: &Value| {
        ["/resources/requests/cpu", "/resources/requests/memory"].iter().all(|path| container.pointer(path).is_some())
    };
    let greedy = bundle.containers().filter(|container| !asks(container));
    greedy.map(|container| format!("container {:?} requests no CPU or no memory", text(container, "/name"))).collect()
}

/// Whether a rule has a resource of a group, with one of these verbs.
fn allows(rule: &Value, group: &str, resource: &str, verbs: &[&str]) -> bool {
    let has = |path, wanted: &str| texts(rule, path).any(|it| it == wanted || it == "*");
    let verb = texts(rule, "/verbs").any(|verb| verb == "*" || verbs.contains(&verb));
    has("/apiGroups", group) && has("/resources", resource) && verb
}

fn no_rights_to_crds(bundle: &Bundle) -> Vec<String> {
    let verbs = ["create", "patch"];
    let makes = bundle.rights().any(|rule| allows(rule, "apiextensions.k8s.io", "customresourcedefinitions", &verbs));
    unless(!makes, || "the operator may create CRDs".into())
}

/// To change one of those that `OpenShift` comes with.
fn no_rights_to_default_sccs(bundle: &Bundle) -> Vec<String> {
    const COMES_WITH: [&str; 8] = [
        "privileged",
        "restricted",
        "anyuid",
        "hostaccess",
        "hostmount-anyuid",
        "hostnetwork",
        "node-exporter",
        "nonroot",
    ];
    let changes = |rule: &&Value| {
        let verbs = ["delete", "update", "patch"];
        let named =
            list(rule, "/resourceNames").is_empty() || texts(rule, "/resourceNames").any(|it| COMES_WITH.contains(&it));
        named && allows(rule, "security.openshift.io", "securitycontextconstraints", &verbs)
    };
    let wrong = bundle.rights().any(|rule| changes(&rule));
    unless(!wrong, || "the operator may change SecurityContextConstraints that OpenShift comes with".into())
}

fn no_rights_to_removed_apis(bundle: &Bundle) -> Vec<String> {
    let named = |rule: &Value| texts(rule, "/resources").any(|it| it == "podsecuritypolicies");
    unless(!bundle.rights().any(named), || "podsecuritypolicies are no more since Kubernetes 1.25".into())
}

/// OLM makes the accounts that rights are for: one that no Deployment runs as would be made for nothing.
fn rights_are_of_the_account(bundle: &Bundle) -> Vec<String> {
    let runs =
        |name: &str| bundle.deployments().iter().any(|it| text(it, "/spec/template/spec/serviceAccountName") == name);
    let all = ["/spec/install/spec/permissions", "/spec/install/spec/clusterPermissions"].into_iter();
    let accounts: Vec<&str> =
        all.flat_map(|path| list(bundle.csv(), path)).map(|it| text(it, "/serviceAccountName")).collect();
    unless(!accounts.is_empty() && accounts.iter().all(|name| runs(name)), || {
        "rights are for an account that no Deployment runs as, or there are none".into()
    })
}

/// With one of these the operator could give itself all rights.
fn no_way_to_more_rights(bundle: &Bundle) -> Vec<String> {
    let everything = |rule: &Value| {
        ["/apiGroups", "/resources", "/verbs"].into_iter().all(|path| texts(rule, path).any(|it| it == "*"))
    };
    let grows = |rule: &Value| texts(rule, "/verbs").any(|verb| ["escalate", "bind", "impersonate"].contains(&verb));
    let wrong = bundle.rights().any(|rule| grows(rule) || everything(rule));
    unless(!wrong, || "a right lets the operator give itself others".into())
}

/// As Pod Security's level restricted asks for, with a root file system that can't be written.
fn pods_are_restricted(bundle: &Bundle) -> Vec<String> {
    let pod = |deployment: &Value| {
        let context = "/spec/template/spec/securityContext";
        is_true(deployment, &format!("{context}/runAsNonRoot"))
            && text(deployment, &format!("{context}/seccompProfile/type")) == "RuntimeDefault"
    };
    let container = |container: &Value| {
        container.pointer("/securityContext/allowPrivilegeEscalation") == Some(&Value::Bool(false))
            && is_true(container, "/securityContext/readOnlyRootFilesystem")
            && texts(container, "/securityContext/capabilities/drop").any(|dropped| dropped == "ALL")
    };
    let good = bundle.deployments().iter().all(pod) && bundle.containers().all(container);
    unless(good, || "a pod is not as Pod Security's level restricted asks for".into())
}
