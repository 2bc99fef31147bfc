//! The rights as a document: each with who needs it and what breaks without it.

use std::fmt::Write as _;

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::granted::told;
use super::in_namespaces::{EVENTS_NAMESPACE, EVENTS_ROLE};
use super::needs::{Need, Reach, needs, needs_in_namespaces};
use super::rule::Rules;
use super::{ACCOUNT, MESH_ROLE, Rights};

const NEEDS_HEAD: &str = "| resource | verbs | what for | without it |\n|---|---|---|---|\n";
const GRANTED_HEAD: &str = "| resource | verbs |\n|---|---|\n";

impl Rights {
    /// The document, in Markdown. `made` is its first line and says where it comes from.
    #[must_use]
    pub fn document(&self, made: &str) -> String {
        let (operator, mesh) = (&self.placement.operator, &self.placement.mesh);
        let mut text = format!("<!-- {made} -->\n{}", intro(operator, mesh));
        let cluster = format!("In the whole cluster: ClusterRole `{ACCOUNT}`");
        let in_mesh = format!("In the mesh's namespace `{mesh}`: Role `{MESH_ROLE}`");
        let own = format!("In the operator's namespace `{operator}`: Role `{ACCOUNT}`");
        for (title, reach) in [(cluster, Reach::Cluster), (in_mesh, Reach::Mesh), (own, Reach::Operator)] {
            let own = needs_table(needs().filter(|need| need.reach == reach));
            let _ = write!(text, "\n## {title}\n\n### What the operator does itself\n\n{own}");
            let granted = self.granted_tables(reach);
            if !granted.is_empty() {
                let _ = write!(text, "\n### Held to be granted\n{granted}");
            }
        }
        text + &in_namespaces(operator, mesh)
    }

    fn granted_tables(&self, reach: Reach) -> String {
        let mut text = String::new();
        for (role, granted) in &self.granted {
            let rules = match reach {
                Reach::Cluster => granted.everywhere(),
                Reach::Mesh => granted.in_mesh.clone(),
                Reach::Operator | Reach::Named | Reach::Events => continue,
            };
            let table = granted_table(&rules);
            if !table.is_empty() {
                let _ = write!(text, "\n#### {role}\n\n{}\n\n{GRANTED_HEAD}{table}", told(role));
            }
        }
        text
    }
}

fn intro(operator: &str, mesh: &str) -> String {
    format!(
        "\
# What Meshwright may do, and why

The operator acts as ServiceAccount `{ACCOUNT}` in namespace `{operator}`. Its rights are those in `rbac.yaml`, and they
are of two sorts:

- **What the operator does itself.** Each right is listed with what it is for and what happens without it.
- **Held to be granted.** Istio's charts make roles for istiod and for gateways, and Kubernetes lets nobody make a role
  that allows more than he may do himself. So the operator has to hold all that these roles allow, though it does none
  of it. Of each role it is said what it is for and what doesn't work without it. Where the operator lacks one of these
  rights the role is not applied: `Ready` is False with reason `Forbidden`, the message names the right, and the mesh
  stays as it was until the right is there. The way round would be the verbs `escalate` and `bind`, by which the operator
  could give itself any right at all: it has neither.

Four things to know before granting this:

- **Secrets.** Reading all Secrets is istiod's right (certificates of gateways, remote clusters) and each gateway's;
  writing them in `{mesh}` is istiod's too, for its CA. The operator must hold both to grant them. Itself it asks for
  the metadata of one Secret, `istio-ca-secret`.
- **Pods.** Injection is proved by creating a pod in a dry run. RBAC knows no right to dry runs alone, so the operator
  may create pods in `{mesh}`, which is a real right: such a pod can use any ServiceAccount and any Secret there.
- **Workloads.** Gateways, cni and ztunnel may be in any namespace, so the operator may write Deployments, DaemonSets and
  Services in all of them; Deployments and Services istiod may write too.
- **Wildcards** stand only where a role of Istio's has one.

Each right is that of the charts as the profiles have them. Values that make a chart's role allow more (for istiod
`taint.enabled`, `global.istiod.enableAnalysis`, `env.EXTERNAL_CA`, `env.ENABLE_CLUSTER_TRUST_BUNDLE_API` and
`env.MCS_API_GROUP`; for cni `repair.deletePods` and `repair.labelPods`), and patches that do, take the same rights here.
For values, for a mesh in another namespace (a second one beside the first too) or for another release, print the manifests
anew: `meshwright rbac --namespace NAMESPACE --catalog DIR --values FILE`, where the file has what `spec.values` has. For
patches, add the rights in a role of your own. A mesh's revision makes no difference.

Removing these manifests with `kubectl delete` removes namespace `{mesh}` with all that is in it, the mesh's certificate
authority too. `meshwright uninstall` leaves it.
"
    )
}

/// What is different where somebody else applies what is in no namespace.
fn in_namespaces(operator: &str, mesh: &str) -> String {
    let written = needs_in_namespaces().filter(|need| matches!(need.reach, Reach::Named | Reach::Events));
    format!(
        "
## With rights in namespaces alone

`meshwright rbac --cluster-objects preinstalled` prints the rights of an operator that is started with the same flag, and
`config/overlays/namespaced-rights` has them: definitions, ClusterRoles, webhooks, policies and namespaces are then applied by
somebody else ([how](../../docs/install.md#with-rights-in-namespaces-alone)). Against the above:

- The ClusterRole `{ACCOUNT}` reads as much, so that the operator sees what it has to judge, and writes nothing but
  MeshInstallations (the finalizer) and their status, which are in no namespace. It has no right to read Secrets.
- Of what is held to be granted, only what Roles allow is left; ClusterRoles are bound by others. The Role `{MESH_ROLE}` has
  that in `{mesh}`, and in each namespace given with `--gateway-namespace` what a gateway's Role allows.
- The right to restart workloads is gone: `spec.proxy.update.mode: Restart` is refused.
- The Role `{ACCOUNT}` in `{operator}` and what the operator does itself in `{mesh}` are as above. What it writes there and in
  each namespace given with `--gateway-namespace`, by the Role `{MESH_ROLE}`, and in `{EVENTS_NAMESPACE}`, where Kubernetes
  has Events about what is in no namespace, by the Role `{EVENTS_ROLE}`:

{}",
        needs_table(written)
    )
}

fn needs_table(needs: impl Iterator<Item = Need>) -> String {
    let mut text = NEEDS_HEAD.to_owned();
    let mut rows: Vec<Need> = needs.collect();
    rows.sort_by_key(|need| (need.group, need.resource, need.name, need.verbs));
    // What is said of several resources alike is said once.
    let mut said: Vec<(Need, Vec<String>)> = Vec::new();
    for need in rows {
        let resource = resource(need.group, need.resource, need.name);
        match said
            .iter_mut()
            .find(|(other, _)| (other.verbs, other.why, other.without) == (need.verbs, need.why, need.without))
        {
            Some((_, resources)) => resources.push(resource),
            None => said.push((need, vec![resource])),
        }
    }
    for (need, resources) in said {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            resources.join(", "),
            need.verbs.join(", "),
            need.why,
            need.without
        );
    }
    text
}

fn granted_table(rules: &Rules) -> String {
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

/// As `kubectl auth can-i` takes it: `resource.group/subresource`; those of the core group have no group.
fn resource(group: &str, resource: &str, name: Option<&str>) -> String {
    let (object, part) = resource.split_once('/').map_or((resource, ""), |(object, part)| (object, part));
    let (dot, slash) = (if group.is_empty() { "" } else { "." }, if part.is_empty() { "" } else { "/" });
    let only = name.map(|name| format!(" (only {name})")).unwrap_or_default();
    format!("`{object}{dot}{group}{slash}{part}`{only}")
}
