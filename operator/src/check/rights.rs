//! Whether the operator may do all that it has to.

use super::asked::Asked;
use super::cluster::{Account, Cluster, Rights};
use super::{Finding, look};
use crate::mesh::rights::{ACCOUNT, together};

const CHECK: &str = "rights";

pub(super) fn findings(_: &Asked, cluster: &Cluster) -> Vec<Finding> {
    match look(CHECK, "rights of the operator", &cluster.rights) {
        Ok(rights) => judge(rights),
        Err(unknown) => unknown,
    }
}

fn judge(rights: &Rights) -> Vec<Finding> {
    let subject = match &rights.of {
        Account::Operator(namespace) => format!("ServiceAccount {namespace}/{ACCOUNT}"),
        Account::Caller => "you, who would install the operator".to_owned(),
    };
    if rights.missing.is_empty() {
        return vec![Finding::pass(
            CHECK,
            subject,
            format!("all {} rights that the operator needs are held", rights.asked),
        )];
    }
    let fix = match &rights.of {
        Account::Operator(_) => "apply what `meshwright rbac` prints for this catalog and namespace",
        Account::Caller => {
            "let somebody install the operator who holds them, such as the cluster's administrator: Kubernetes lets nobody \
             grant what he doesn't hold"
        }
    };
    together(&rights.missing)
        .into_iter()
        .map(|((place, verbs), targets)| {
            let reason = format!("may not {} {} {place}", verbs.join(", "), targets.join(", "));
            Finding::fail(CHECK, subject.clone(), reason).fix(fix)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::mesh::rights::Right;

    fn right(verb: &str, resource: &str, namespace: Option<&str>) -> Right {
        Right {
            namespace: namespace.map(str::to_owned),
            group: String::new(),
            resource: resource.into(),
            name: None,
            verb: verb.into(),
        }
    }

    #[test]
    fn who_holds_everything_passes() {
        let held = Rights { of: Account::Caller, asked: 180, missing: vec![] };
        assert_eq!(judge(&held)[0].verdict, Verdict::Pass);
    }

    #[test]
    fn missing_rights_are_said_by_resource_and_place_with_who_can_mend_it() {
        let missing = vec![
            right("create", "services", None),
            right("patch", "services", None),
            right("create", "pods", None),
            right("patch", "pods", None),
            right("get", "secrets", Some("x")),
        ];
        let of = Account::Operator("meshwright-system".into());
        let findings = judge(&Rights { of, asked: 180, missing: missing.clone() });
        assert_eq!(findings.len(), 2);
        assert_eq!(findings[0].reason, "may not get secrets in namespace x");
        assert_eq!(findings[1].reason, "may not create, patch pods, services in the whole cluster");
        assert!(findings[0].verdict == Verdict::Fail && findings[0].subject.contains("meshwright-system/meshwright"));
        assert!(findings[0].fix.as_ref().unwrap().contains("meshwright rbac"));
        let caller = judge(&Rights { of: Account::Caller, asked: 180, missing });
        assert!(caller[0].fix.as_ref().unwrap().contains("administrator"));
    }
}
