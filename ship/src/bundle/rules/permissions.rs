//! Rules for the operator's permissions and security context.

use serde_json::Value;

use super::super::{Bundle, is_true, list, text, texts};
use super::{Rule, RuleOrigin, violation_unless};

pub(super) const RULES: &[Rule] = &[
    Rule::warning("containers-request-resources", RuleOrigin::Framework, containers_request_resources),
    Rule::warning("no-crd-permissions", RuleOrigin::Framework, no_crd_permissions),
    Rule::error("no-default-scc-permissions", RuleOrigin::Framework, no_default_scc_permissions),
    Rule::error("no-removed-api-permissions", RuleOrigin::Framework, no_removed_api_permissions),
    Rule::error("permissions-match-service-account", RuleOrigin::Own, permissions_match_service_account),
    Rule::error("no-privilege-escalation", RuleOrigin::Own, no_privilege_escalation),
    Rule::error("pods-are-restricted", RuleOrigin::Own, pods_are_restricted),
];

fn containers_request_resources(bundle: &Bundle) -> Vec<String> {
    let has_requests = |container: &Value| {
        ["/resources/requests/cpu", "/resources/requests/memory"].iter().all(|path| container.pointer(path).is_some())
    };
    let without_requests = bundle.containers().filter(|container| !has_requests(container));
    without_requests
        .map(|container| format!("container {:?} has no CPU or memory request", text(container, "/name")))
        .collect()
}

/// Whether an RBAC rule allows one of these verbs on a resource.
fn allows(rule: &Value, group: &str, resource: &str, verbs: &[&str]) -> bool {
    let has = |path, wanted: &str| texts(rule, path).any(|it| it == wanted || it == "*");
    let verb = texts(rule, "/verbs").any(|verb| verb == "*" || verbs.contains(&verb));
    has("/apiGroups", group) && has("/resources", resource) && verb
}

fn no_crd_permissions(bundle: &Bundle) -> Vec<String> {
    let verbs = ["create", "patch"];
    let allowed =
        bundle.permission_rules().any(|rule| allows(rule, "apiextensions.k8s.io", "customresourcedefinitions", &verbs));
    violation_unless(!allowed, || "the operator may create CRDs".into())
}

/// Checks for permissions to change the default SCCs of `OpenShift`.
fn no_default_scc_permissions(bundle: &Bundle) -> Vec<String> {
    const DEFAULTS: [&str; 8] = [
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
            list(rule, "/resourceNames").is_empty() || texts(rule, "/resourceNames").any(|it| DEFAULTS.contains(&it));
        named && allows(rule, "security.openshift.io", "securitycontextconstraints", &verbs)
    };
    let wrong = bundle.permission_rules().any(|rule| changes(&rule));
    violation_unless(!wrong, || "the operator may change default SecurityContextConstraints of OpenShift".into())
}

fn no_removed_api_permissions(bundle: &Bundle) -> Vec<String> {
    let named = |rule: &Value| texts(rule, "/resources").any(|it| it == "podsecuritypolicies");
    violation_unless(!bundle.permission_rules().any(named), || {
        "podsecuritypolicies were removed in Kubernetes 1.25".into()
    })
}

/// OLM creates a `ServiceAccount` for each set of permissions, so each must be used by a Deployment.
fn permissions_match_service_account(bundle: &Bundle) -> Vec<String> {
    let runs =
        |name: &str| bundle.deployments().iter().any(|it| text(it, "/spec/template/spec/serviceAccountName") == name);
    let all = ["/spec/install/spec/permissions", "/spec/install/spec/clusterPermissions"].into_iter();
    let accounts: Vec<&str> =
        all.flat_map(|path| list(bundle.csv(), path)).map(|it| text(it, "/serviceAccountName")).collect();
    violation_unless(!accounts.is_empty() && accounts.iter().all(|name| runs(name)), || {
        "permissions are missing, or are for a ServiceAccount that no Deployment uses".into()
    })
}

/// Checks for permissions that allow privilege escalation.
fn no_privilege_escalation(bundle: &Bundle) -> Vec<String> {
    let everything = |rule: &Value| {
        ["/apiGroups", "/resources", "/verbs"].into_iter().all(|path| texts(rule, path).any(|it| it == "*"))
    };
    let escalates =
        |rule: &Value| texts(rule, "/verbs").any(|verb| ["escalate", "bind", "impersonate"].contains(&verb));
    let wrong = bundle.permission_rules().any(|rule| escalates(rule) || everything(rule));
    violation_unless(!wrong, || "a permission allows privilege escalation".into())
}

/// Requires Pod Security "restricted" and a read-only root file system.
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
    let restricted = bundle.deployments().iter().all(pod) && bundle.containers().all(container);
    violation_unless(restricted, || {
        "a pod violates the restricted Pod Security Standard or has a writable root file system".into()
    })
}
