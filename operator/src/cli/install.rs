//! `meshwright install`: prints one manifest with all resources that config/kustomization.yaml lists.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use meshwright_api::CrdYamlError;
use oci_client::Reference;

use super::directories::Directories;
use super::names::{namespace, priority_class};
use super::output::print;
use super::rbac::{self, RbacArgs, RbacError};
use crate::mesh::cluster_scoped::ClusterScopedResources;

/// Flags of `meshwright install`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  # Install the operator
  meshwright install --image registry.example.com/meshwright:0.1.0 | kubectl apply --server-side -f -

  # Grant the permissions that the releases of a catalog need
  meshwright install --catalog releases --mesh-namespace mesh-system >install.yaml

  # Grant write permissions in the mesh's namespaces only
  meshwright install --cluster-scoped-resources external >install.yaml")]
pub struct InstallArgs {
    /// Image of the operator, for example registry.example.com/platform/meshwright:0.1.0
    #[arg(long, default_value = IMAGE, value_parser = image)]
    image: String,
    /// Catalog directories. The operator gets the permissions that all releases in them need; without this flag, it
    /// gets those for the Istio development build that Meshwright is tested with
    #[arg(long = "catalog", value_name = "DIR")]
    catalogs: Vec<Directories>,
    /// Namespace of the control plane
    #[arg(long, value_parser = namespace, default_value = super::MESH_NAMESPACE, requires = "catalogs", value_name = "NAMESPACE")]
    mesh_namespace: String,
    /// File with Helm values in the format of spec.values, for chart options that need more permissions; - reads
    /// standard input
    #[arg(long, value_name = "FILE", requires = "catalogs")]
    values: Option<PathBuf>,
    /// How the mesh's cluster-scoped resources are managed. With external, the operator can only write in the mesh's
    /// namespaces
    #[arg(long, value_enum, default_value_t = ClusterScopedResources::Managed, value_name = "POLICY")]
    cluster_scoped_resources: ClusterScopedResources,
    /// Additional namespace of gateways, istio-cni or ztunnel; can be repeated. Requires --cluster-scoped-resources
    /// external, because otherwise the operator has permissions in all namespaces
    #[arg(long = "gateway-namespace", value_parser = namespace, value_name = "NAMESPACE", requires = "catalogs")]
    gateway_namespaces: Vec<String>,
    /// Priority class of the operator's pods. With a class of Kubernetes, such as system-cluster-critical, the manifest
    /// has a resource quota, which GKE requires
    #[arg(long, value_parser = priority_class, value_name = "NAME")]
    priority_class: Option<String>,
}

/// The manifest can't be printed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The CRD can't be serialized.
    #[error("can't generate the manifest")]
    Crd(#[source] CrdYamlError),
    /// The permissions for the catalog's releases can't be computed.
    #[error("can't compute the operator's permissions")]
    Permissions(#[source] RbacError),
    /// Standard output can't be written.
    #[error("can't write the output")]
    Print(#[source] io::Error),
}

/// The operator's namespace comes first: all other namespaced resources need it.
const NAMESPACE: &str = include_str!("../../../config/manager/namespace.yaml");
const SERVICE_ACCOUNT: &str = include_str!("../../../config/manager/service_account.yaml");
const RBAC: &str = include_str!("../../../config/rbac/rbac.yaml");
const NAMESPACED_RBAC: &str = include_str!("../../../config/overlays/namespaced-permissions/rbac.yaml");
/// The resources after RBAC, in the order in which to apply them.
const PARTS: [&str; 4] = [
    include_str!("../../../config/manager/network_policy.yaml"),
    include_str!("../../../config/manager/disruption_budget.yaml"),
    include_str!("../../../config/manager/service.yaml"),
    include_str!("../../../config/manager/deployment.yaml"),
];
/// The Deployment's last argument; further ones are inserted after it.
const LAST_ARGUMENT: &str = "            - --admin-address=$(POD_IP)\n";
/// The first line of the Deployment, and the line of its pods after which the priority class is inserted.
const DEPLOYMENT: &str = "apiVersion: apps/v1\n";
const POD_ACCOUNT: &str = "      serviceAccountName: meshwright\n";
const RESOURCE_QUOTA: &str = include_str!("../../../config/manager/resource_quota.yaml");
/// The class in the quota, and how the names of Kubernetes' own classes start.
const QUOTA_CLASS: &str = "- system-cluster-critical\n";
const SYSTEM_CLASS: &str = "system-";
const IMAGE: &str = concat!("meshwright:", env!("CARGO_PKG_VERSION"));

/// Prints the manifest.
pub fn run(args: &InstallArgs) -> Result<ExitCode, InstallError> {
    let manifest =
        manifest(&args.image, &rbac_manifest(args)?, args.cluster_scoped_resources).map_err(InstallError::Crd)?;
    let manifest = args.priority_class.iter().fold(manifest, |manifest, class| with_priority_class(&manifest, class));
    print(io::stdout().lock(), &manifest).map_err(InstallError::Print)?;
    Ok(ExitCode::SUCCESS)
}

fn rbac_manifest(args: &InstallArgs) -> Result<String, InstallError> {
    if args.catalogs.is_empty() {
        return Ok(bundled_rbac(args.cluster_scoped_resources).to_owned());
    }
    let InstallArgs { catalogs, mesh_namespace, values, cluster_scoped_resources, gateway_namespaces, .. } = args;
    let rbac_args = RbacArgs {
        catalogs: catalogs.clone(),
        mesh_namespace: mesh_namespace.clone(),
        operator_namespace: super::OPERATOR_NAMESPACE.to_owned(),
        values: values.clone(),
        cluster_scoped_resources: *cluster_scoped_resources,
        gateway_namespaces: gateway_namespaces.clone(),
        document: false,
    };
    rbac::text(&rbac_args).map_err(InstallError::Permissions)
}

const fn bundled_rbac(policy: ClusterScopedResources) -> &'static str {
    match policy {
        ClusterScopedResources::Managed => RBAC,
        ClusterScopedResources::External => NAMESPACED_RBAC,
    }
}

fn manifest(image: &str, rbac: &str, policy: ClusterScopedResources) -> Result<String, CrdYamlError> {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!("# Meshwright {version}. Generated by meshwright install\n");
    let crd = meshwright_api::crd_yaml()?;
    for part in [NAMESPACE, &crd, SERVICE_ACCOUNT, rbac].into_iter().chain(PARTS) {
        if !part.contains("\n---\n") {
            text.push_str("---\n");
        }
        text.push_str(part);
    }
    if policy == ClusterScopedResources::External {
        text =
            text.replace(LAST_ARGUMENT, &format!("{LAST_ARGUMENT}            - --cluster-scoped-resources=external\n"));
    }
    Ok(text.replace(&format!("image: {IMAGE}\n"), &format!("image: \"{image}\"\n")))
}

/// Sets the priority class of the operator's pods, and adds a quota for a class of Kubernetes itself.
fn with_priority_class(manifest: &str, class: &str) -> String {
    let quota = RESOURCE_QUOTA.replace(QUOTA_CLASS, &format!("- {class}\n"));
    let quota = if class.starts_with(SYSTEM_CLASS) { format!("{quota}---\n") } else { String::new() };
    let pods = format!("{POD_ACCOUNT}      priorityClassName: \"{class}\"\n");
    manifest.replace(DEPLOYMENT, &format!("{quota}{DEPLOYMENT}")).replace(POD_ACCOUNT, &pods)
}

/// Checks the syntax of an image reference. The registry isn't contacted: only the clusters may be able to reach it.
fn image(text: &str) -> Result<String, String> {
    let example = "for example registry.example.com/platform/meshwright:0.1.0";
    match text.parse::<Reference>() {
        Err(error) => Err(format!("invalid image: {error}; use a reference, {example}")),
        // A first component without '.' or ':' is part of the path, not a host.
        Ok(image) if image.repository().contains(|c: char| c.is_ascii_uppercase()) => {
            Err(format!("invalid image: repository names are lower-case; use a reference, {example}"))
        }
        Ok(_) => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use clap::Parser as _;
    use serde_json::Value;

    use super::*;

    fn default_manifest(image: &str) -> String {
        manifest(image, RBAC, ClusterScopedResources::Managed).unwrap()
    }

    fn documents(text: &str) -> Vec<Value> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
        documents.into_iter().filter(|document| !document.is_null()).collect()
    }

    fn text<'a>(value: &'a Value, path: &str) -> &'a str {
        value.pointer(path).and_then(Value::as_str).unwrap_or_default()
    }

    /// All resources of a kustomization, including those of nested ones.
    fn kustomize_resources(folder: &Path) -> Vec<Value> {
        let kustomization = &documents(&fs::read_to_string(folder.join("kustomization.yaml")).unwrap())[0];
        let resources = kustomization["resources"].as_array().unwrap();
        let path = |resource: &Value| -> PathBuf { folder.join(resource.as_str().unwrap()) };
        resources.iter().map(path).fold(Vec::new(), |mut found, path| {
            let more =
                if path.is_dir() { kustomize_resources(&path) } else { documents(&fs::read_to_string(path).unwrap()) };
            found.extend(more);
            found
        })
    }

    #[test]
    fn manifest_equals_kustomization() {
        let by_name = |mut objects: Vec<Value>| {
            let name =
                |o: &Value| ["/kind", "/metadata/namespace", "/metadata/name"].map(|path| text(o, path).to_owned());
            objects.sort_by_key(name);
            objects
        };
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
        assert_eq!(by_name(documents(&default_manifest(IMAGE))), by_name(kustomize_resources(&config)));
    }

    #[test]
    fn external_policy_changes_only_rbac_and_flag() {
        let [managed, external] = [ClusterScopedResources::Managed, ClusterScopedResources::External]
            .map(|policy| documents(&manifest(IMAGE, bundled_rbac(policy), policy).unwrap()));
        let rest = |objects: &[Value]| -> Vec<Value> {
            let is_permission =
                |o: &&Value| text(o, "/kind").contains("Role") || text(o, "/metadata/name") == "istio-system";
            objects.iter().filter(|o| !is_permission(o)).cloned().collect()
        };
        let (managed, mut external) = (rest(&managed), rest(&external));
        let args = external.last_mut().unwrap().pointer_mut("/spec/template/spec/containers/0/args").unwrap();
        assert_eq!(args.as_array_mut().unwrap().pop().unwrap(), "--cluster-scoped-resources=external");
        assert_eq!(managed, external);
    }

    #[test]
    fn dependencies_come_first() {
        let objects = documents(&default_manifest(IMAGE));
        let position = |kind: &str, name: &str| {
            objects.iter().position(|o| text(o, "/kind") == kind && text(o, "/metadata/name") == name)
        };
        for (index, object) in objects.iter().enumerate() {
            let namespace = text(object, "/metadata/namespace");
            let needed = if namespace.is_empty() { Some(0) } else { position("Namespace", namespace) };
            assert!(needed.is_some_and(|needed| needed <= index), "{namespace} must come first");
        }
        let last = objects.len() - 1;
        assert_eq!(
            position("Deployment", "meshwright"),
            Some(last),
            "the operator must have its permissions when it starts"
        );
        assert!(position("CustomResourceDefinition", "meshinstallations.meshwright.dev").is_some());
    }

    #[test]
    fn uses_image_from_flag() {
        let image = |manifest: &str| {
            let path = "/spec/template/spec/containers/0/image";
            text(documents(manifest).last().unwrap(), path).to_owned()
        };
        assert_eq!(image(&default_manifest(IMAGE)), IMAGE);
        let custom = format!("registry.example.com:5000/platform/meshwright@sha256:{}", "0f".repeat(32));
        let manifest = default_manifest(&custom);
        assert_eq!(image(&manifest), custom);
        assert!(!manifest.contains(&format!("image: {IMAGE}")));
    }

    #[test]
    fn system_priority_class_has_quota() {
        let plain = documents(&default_manifest(IMAGE));
        let with = |class: &str| {
            let mut objects = documents(&with_priority_class(&default_manifest(IMAGE), class));
            let pod = objects.last_mut().unwrap().pointer_mut("/spec/template/spec").unwrap();
            assert_eq!(pod.as_object_mut().unwrap().remove("priorityClassName"), Some(class.into()));
            let (quotas, others): (Vec<Value>, Vec<Value>) =
                objects.into_iter().partition(|object| object["kind"] == "ResourceQuota");
            assert_eq!(others, plain, "nothing else changes");
            let values = |quota: &Value| quota.pointer("/spec/scopeSelector/matchExpressions/0/values").cloned();
            quotas.iter().map(values).collect::<Vec<_>>()
        };
        assert!(with("infra").is_empty());
        for class in ["system-cluster-critical", "system-node-critical"] {
            assert_eq!(with(class), [Some(serde_json::json!([class]))]);
        }
    }

    #[test]
    fn mesh_namespace_and_values_require_catalog() {
        let read = |args: &[&str]| {
            let words = [&["meshwright", "install"], args].concat();
            super::super::Cli::try_parse_from(words).map(|_| ()).map_err(|error| error.to_string())
        };
        read(&[]).unwrap();
        read(&["--catalog", "a:b", "--mesh-namespace", "mesh", "--values", "values.yaml"]).unwrap();
        for alone in [["--mesh-namespace", "mesh"], ["--values", "values.yaml"]] {
            let problem = read(&alone).unwrap_err();
            assert!(problem.contains("--catalog"), "{problem}");
        }
    }

    #[test]
    fn rejects_invalid_image_references() {
        let pinned = format!("registry.example.com:5000/a/b_c:Tag-1@sha256:{}", "0f".repeat(32));
        for good in [IMAGE, "localhost/a", "Registry.example.com/a:1", &pinned] {
            assert_eq!(image(good).as_deref(), Ok(good));
        }
        let short = "a/b@sha256:00ff";
        let odd = ["foo:bar:baz", "UPPER/x", "example.com/UPPER", "a//b", "https://a.example.com/b", short];
        for bad in ["", "a b", "a\nb: c", "a #b", "'a'", "-a", "a:", "{a}", "a\"b"].into_iter().chain(odd) {
            assert!(image(bad).is_err_and(|error| error.contains("registry.example.com")), "{bad}");
        }
    }
}
