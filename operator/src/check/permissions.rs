//! Permissions of the operator.

use super::input::CheckInput;
use super::snapshot::{ClusterSnapshot, PermissionReview, ReviewedAccount};
use super::{Finding, require};
use crate::mesh::rbac::{ACCOUNT, group_by_scope};

const CHECK: &str = "permissions";

pub(super) fn findings(_: &CheckInput, cluster: &ClusterSnapshot) -> Vec<Finding> {
    match require(CHECK, "operator permissions", &cluster.permissions) {
        Ok(review) => evaluate(review),
        Err(unknown) => unknown,
    }
}

fn evaluate(review: &PermissionReview) -> Vec<Finding> {
    let subject = match &review.account {
        ReviewedAccount::Operator(namespace) => format!("ServiceAccount {namespace}/{ACCOUNT}"),
        ReviewedAccount::Caller => "the current user".to_owned(),
    };
    if review.missing.is_empty() {
        return vec![Finding::pass(
            CHECK,
            subject,
            format!("all {} permissions that the operator needs are granted", review.reviewed),
        )];
    }
    let fix = match &review.account {
        ReviewedAccount::Operator(_) => "apply the output of `meshwright rbac` for this catalog and namespace",
        ReviewedAccount::Caller => {
            "have a cluster administrator install the operator: Kubernetes only lets users grant permissions that \
             they have"
        }
    };
    group_by_scope(&review.missing)
        .into_iter()
        .map(|((scope, verbs), targets)| {
            let reason = format!("is not allowed to {} {} {scope}", verbs.join(", "), targets.join(", "));
            Finding::fail(CHECK, subject.clone(), reason).fix(fix)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::CheckVerdict;
    use super::*;
    use crate::mesh::rbac::Permission;

    fn permission(verb: &str, resource: &str, namespace: Option<&str>) -> Permission {
        Permission {
            namespace: namespace.map(str::to_owned),
            group: String::new(),
            resource: resource.into(),
            name: None,
            verb: verb.into(),
        }
    }

    #[test]
    fn passes_with_all_permissions() {
        let complete = PermissionReview { account: ReviewedAccount::Caller, reviewed: 180, missing: vec![] };
        assert_eq!(evaluate(&complete)[0].verdict, CheckVerdict::Pass);
    }

    #[test]
    fn groups_missing_permissions_and_suggests_fix() {
        let missing = vec![
            permission("create", "services", None),
            permission("patch", "services", None),
            permission("create", "pods", None),
            permission("patch", "pods", None),
            permission("get", "secrets", Some("x")),
        ];
        let account = ReviewedAccount::Operator("meshwright-system".into());
        let findings = evaluate(&PermissionReview { account, reviewed: 180, missing: missing.clone() });
        assert_eq!(findings.len(), 2);
        assert_eq!(findings[0].reason, "is not allowed to get secrets in namespace x");
        assert_eq!(findings[1].reason, "is not allowed to create, patch pods, services in the whole cluster");
        assert!(
            findings[0].verdict == CheckVerdict::Fail && findings[0].subject.contains("meshwright-system/meshwright")
        );
        assert!(findings[0].fix.as_ref().unwrap().contains("meshwright rbac"));
        let caller = evaluate(&PermissionReview { account: ReviewedAccount::Caller, reviewed: 180, missing });
        assert!(caller[0].fix.as_ref().unwrap().contains("administrator"));
    }
}
