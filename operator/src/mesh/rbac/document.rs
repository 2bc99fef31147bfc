//! The RBAC document: each permission with its purpose and what fails without it.

use std::fmt::Write as _;

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::chart_roles::describe;
use super::namespaced::{EVENTS_NAMESPACE, EVENTS_ROLE};
use super::own_permissions::{OwnPermission, PermissionScope, namespaced_own_permissions, own_permissions};
use super::rule::RuleSet;
use super::{ACCOUNT, MESH_ROLE, OperatorPermissions};

const OWN_HEADER: &str = "| resource | verbs | purpose | without it |\n|---|---|---|---|\n";
const GRANTED_HEADER: &str = "| resource | verbs |\n|---|---|\n";

impl OperatorPermissions {
    /// The document in Markdown. `header` is its first line, a comment that names the generator.
    #[must_use]
    pub fn document(&self, header: &str) -> String {
        let (operator, mesh) = (&self.namespaces.operator, &self.namespaces.mesh);
        let mut text = format!("<!-- {header} -->\n{}", intro(operator, mesh));
        let cluster = format!("Cluster-wide: ClusterRole `{ACCOUNT}`");
        let in_mesh = format!("Mesh namespace `{mesh}`: Role `{MESH_ROLE}`");
        let in_operator = format!("Operator namespace `{operator}`: Role `{ACCOUNT}`");
        let sections = [
            (cluster, PermissionScope::Cluster),
            (in_mesh, PermissionScope::Mesh),
            (in_operator, PermissionScope::Operator),
        ];
        for (title, scope) in sections {
            let table = own_table(own_permissions().filter(|permission| permission.scope == scope));
            let _ = write!(text, "\n## {title}\n\n### Used by the operator\n\n{table}");
            let granted = self.granted_tables(scope);
            if !granted.is_empty() {
                let _ = write!(text, "\n### Granted to Istio's components and add-ons\n{granted}");
            }
        }
        text + &namespaced_section(operator, mesh)
    }

    fn granted_tables(&self, scope: PermissionScope) -> String {
        let mut text = String::new();
        for (role, granted) in &self.granted {
            let rules = match scope {
                PermissionScope::Cluster => granted.cluster_wide(),
                PermissionScope::Mesh => granted.mesh.clone(),
                PermissionScope::Operator | PermissionScope::Named | PermissionScope::Events => continue,
            };
            let table = granted_table(&rules);
            if !table.is_empty() {
                let _ = write!(text, "\n#### {role}\n\n{}\n\n{GRANTED_HEADER}{table}", describe(role));
            }
        }
        text
    }
}

fn intro(operator: &str, mesh: &str) -> String {
    format!(
        "\
# Permissions of the operator

The operator runs as ServiceAccount `{ACCOUNT}` in namespace `{operator}`. Its permissions are in `rbac.yaml`. There
are two kinds:

- **Used by the operator.** Each permission is listed with its purpose and what happens without it.
- **Granted to Istio's components and add-ons.** Istio's charts create Roles and ClusterRoles for istiod and for
  gateways, and Kubernetes lets no client create a role with more permissions than it has. So the operator needs all
  permissions in these roles, though it does not use them. Each role is listed with its purpose and what fails without
  it. If the operator lacks one of these permissions, it does not apply the role: `Ready` is False with reason
  `Forbidden`, the message names the permission, and the mesh stays unchanged until the permission is granted. The
  alternative would be the verbs `escalate` and `bind`, with which the operator could grant itself any permission. It
  has neither.

Before you grant these permissions:

- **Secrets.** istiod reads all Secrets (gateway certificates, remote clusters), and so does each gateway. istiod also
  writes Secrets in `{mesh}`, for its CA. The operator needs both permissions to grant them. The operator itself only
  reads the metadata of one Secret, `istio-ca-secret`, and the certificates in another, `cacerts`.
- **Pods.** The injection check creates a pod in a dry run. RBAC has no permission for dry runs alone, so the operator
  may create pods in `{mesh}`. Such a pod could use any ServiceAccount and any Secret in that namespace.
- **Workloads.** Gateways, istio-cni and ztunnel may be in any namespace, so the operator may write Deployments,
  DaemonSets and Services in all namespaces. istiod may write Deployments and Services, too.
- **CRDs.** The operator may change and delete those that Istio's releases have, by name. With `--catalog`, CRDs that
  only releases in the catalog have are added. RBAC can't limit the permission to create CRDs.
- **Wildcards** occur only where a role of Istio has one.

The permissions match the charts with the values of the profiles. Some values add permissions to a chart's role (for
istiod `taint.enabled`, `global.istiod.enableAnalysis`, `env.EXTERNAL_CA`, `env.ENABLE_CLUSTER_TRUST_BUNDLE_API` and
`env.MCS_API_GROUP`; for istio-cni `repair.deletePods` and `repair.labelPods`), and patches can do so as well; the
operator then needs the same permissions. For such values, for a mesh in another namespace (also a second mesh) or for
another release, generate the manifests with `meshwright rbac --mesh-namespace NAMESPACE --catalog DIR --values FILE`,
where the file has the content of `spec.values`. For patches, add the permissions in a role of your own. The revision
of a mesh makes no difference.

`kubectl delete` with these manifests deletes namespace `{mesh}` and everything in it, including the mesh's
certificate authority. `meshwright uninstall` keeps it.
"
    )
}

/// The section about an operator that does not write cluster-scoped resources.
fn namespaced_section(operator: &str, mesh: &str) -> String {
    let in_namespaces =
        |permission: &OwnPermission| matches!(permission.scope, PermissionScope::Named | PermissionScope::Events);
    let namespaced = namespaced_own_permissions().filter(in_namespaces);
    format!(
        "
## Namespace-scoped permissions

`meshwright rbac --cluster-scoped-resources external` prints the permissions of an operator that runs with the same
flag, and `config/overlays/namespaced-permissions` contains them. A cluster administrator then applies CRDs,
ClusterRoles, webhooks, policies and namespaces ([instructions](../../docs/install.md#namespace-scoped-permissions)).
Compared with the above:

- The ClusterRole `{ACCOUNT}` has the same read permissions, so that the operator can compare these resources, but
  writes only MeshInstallations (the finalizer) and their status, which are cluster-scoped. It may not read Secrets.
- Of the permissions granted to Istio's components, only those in Roles remain; a cluster administrator binds the
  ClusterRoles. The Role `{MESH_ROLE}` has them in `{mesh}`, and in each namespace of `--gateway-namespace` it has
  those of a gateway's Role.
- The operator may not restart workloads: `spec.proxy.update.mode: Restart` is refused.
- The Role `{ACCOUNT}` in `{operator}` and the operator's own permissions in `{mesh}` are as above. In `{mesh}` and in
  each namespace of `--gateway-namespace`, the Role `{MESH_ROLE}` adds the following write permissions; the Role
  `{EVENTS_ROLE}` has those for `{EVENTS_NAMESPACE}`, where Kubernetes stores Events about cluster-scoped objects:

{}",
        own_table(namespaced)
    )
}

fn own_table(own_permissions: impl Iterator<Item = OwnPermission>) -> String {
    let mut text = OWN_HEADER.to_owned();
    let mut sorted: Vec<OwnPermission> = own_permissions.collect();
    sorted.sort_by_key(|permission| (permission.group, permission.resource, permission.names, permission.verbs));
    // Resources with the same verbs and texts share a row.
    let mut rows: Vec<(OwnPermission, Vec<String>)> = Vec::new();
    for permission in sorted {
        let names = Some(permission.names.join(", ")).filter(|names| !names.is_empty());
        let resource = resource(permission.group, permission.resource, names.as_deref());
        let texts = |permission: &OwnPermission| (permission.verbs, permission.purpose, permission.without);
        match rows.iter_mut().find(|(other, _)| texts(other) == texts(&permission)) {
            Some((_, resources)) => resources.push(resource),
            None => rows.push((permission, vec![resource])),
        }
    }
    for (permission, resources) in rows {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            resources.join(", "),
            permission.verbs.join(", "),
            permission.purpose,
            permission.without
        );
    }
    text
}

fn granted_table(rules: &RuleSet) -> String {
    let rows = rules.reduced().policies().into_iter().map(|rule| {
        let what = resources(&rule).join(", ");
        format!("| {what} | {} |\n", rule.verbs.join(", "))
    });
    rows.collect()
}

fn resources(rule: &PolicyRule) -> Vec<String> {
    let names = rule.resource_names.as_deref().map(|names| names.join(", "));
    let mut all = Vec::new();
    for group in rule.api_groups.iter().flatten() {
        for name in rule.resources.iter().flatten() {
            all.push(resource(group, name, names.as_deref()));
        }
    }
    all.extend(rule.non_resource_urls.iter().flatten().map(|path| format!("path `{path}`")));
    all
}

/// The form that `kubectl auth can-i` takes: `resource.group/subresource`, without the group for the core group.
fn resource(group: &str, resource: &str, name: Option<&str>) -> String {
    let (object, part) = resource.split_once('/').map_or((resource, ""), |(object, part)| (object, part));
    let (dot, slash) = (if group.is_empty() { "" } else { "." }, if part.is_empty() { "" } else { "/" });
    let only = name.map(|name| format!(" (only {name})")).unwrap_or_default();
    format!("`{object}{dot}{group}{slash}{part}`{only}")
}
