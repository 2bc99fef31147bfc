//! `meshwright install`: the operator and all that it needs, as one manifest: what config/kustomization.yaml puts together.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use meshwright_api::CrdYamlError;
use oci_client::Reference;

use super::directories::Directories;
use super::names::namespace;
use super::output::print;
use super::rbac::{self, RbacArgs, RbacError};
use crate::mesh::cluster_objects::ClusterObjects;

/// Flags of `meshwright install`.
#[derive(Args, Debug)]
pub struct InstallArgs {
    /// The operator's image, as your clusters pull it. Example: registry.example.com/platform/meshwright:0.1.0
    #[arg(long, default_value = IMAGE, value_parser = image)]
    image: String,
    /// Directories of Istio releases, as `meshwright catalog` makes them, for all of which the operator gets the rights;
    /// without, they are those for the development build that Meshwright itself is tested with
    #[arg(long = "catalog", value_name = "DIR")]
    catalogs: Vec<Directories>,
    /// Namespace of the mesh's control plane, for which the rights are
    #[arg(long, value_parser = namespace, default_value = super::MESH_NAMESPACE, requires = "catalogs")]
    namespace: String,
    /// File with values of Istio's charts, as spec.values has them, by which their roles may allow more; - reads
    /// standard input
    #[arg(long, value_name = "FILE", requires = "catalogs")]
    values: Option<PathBuf>,
    /// Who writes the objects of a mesh that are in no namespace. With preinstalled the operator gets rights to write in
    /// namespaces alone
    #[arg(long, value_enum, default_value_t = ClusterObjects::Managed, value_name = "WHO")]
    cluster_objects: ClusterObjects,
    /// Another namespace that gateways, cni or ztunnel may be in; can be given again. Only with --cluster-objects
    /// preinstalled: otherwise they may be in any
    #[arg(long = "gateway-namespace", value_parser = namespace, value_name = "NAMESPACE", requires = "catalogs")]
    gateway_namespaces: Vec<String>,
}

/// The manifest can't be printed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The definition of `MeshInstallation` can't be written.
    #[error("making the manifest failed")]
    Definition(#[source] CrdYamlError),
    /// The rights for the releases of a catalog can't be worked out.
    #[error("working out the operator's rights failed")]
    Rights(#[source] RbacError),
    /// Nobody takes the output.
    #[error("can't write the output")]
    Print(#[source] io::Error),
}

/// What has to be there before anything else: the operator's namespace.
const NAMESPACE: &str = include_str!("../../../config/manager/namespace.yaml");
const SERVICE_ACCOUNT: &str = include_str!("../../../config/manager/service_account.yaml");
const RIGHTS: &str = include_str!("../../../config/rbac/rbac.yaml");
const RIGHTS_IN_NAMESPACES: &str = include_str!("../../../config/overlays/namespaced-rights/rbac.yaml");
/// What comes after the rights, in the order in which it is to be applied.
const PARTS: [&str; 4] = [
    include_str!("../../../config/manager/network_policy.yaml"),
    include_str!("../../../config/manager/disruption_budget.yaml"),
    include_str!("../../../config/manager/service.yaml"),
    include_str!("../../../config/manager/deployment.yaml"),
];
/// The last of the Deployment's arguments.
const LAST_ARGUMENT: &str = "            - --admin-address=$(POD_IP)\n";
/// The Deployment's image.
const IMAGE: &str = concat!("meshwright:", env!("CARGO_PKG_VERSION"));

/// Prints the manifest.
pub fn run(args: &InstallArgs) -> Result<ExitCode, InstallError> {
    let manifest = manifest(&args.image, &rights(args)?, args.cluster_objects).map_err(InstallError::Definition)?;
    print(io::stdout().lock(), &manifest).map_err(InstallError::Print)?;
    Ok(ExitCode::SUCCESS)
}

fn rights(args: &InstallArgs) -> Result<String, InstallError> {
    if args.catalogs.is_empty() {
        return Ok(committed(args.cluster_objects).to_owned());
    }
    let InstallArgs { image: _, catalogs, namespace, values, cluster_objects, gateway_namespaces } = args;
    let asked = RbacArgs {
        catalogs: catalogs.clone(),
        namespace: namespace.clone(),
        operator_namespace: super::OPERATOR_NAMESPACE.to_owned(),
        values: values.clone(),
        cluster_objects: *cluster_objects,
        gateway_namespaces: gateway_namespaces.clone(),
        document: false,
    };
    rbac::text(&asked).map_err(InstallError::Rights)
}

const fn committed(cluster_objects: ClusterObjects) -> &'static str {
    match cluster_objects {
        ClusterObjects::Managed => RIGHTS,
        ClusterObjects::Preinstalled => RIGHTS_IN_NAMESPACES,
    }
}

fn manifest(image: &str, rights: &str, cluster_objects: ClusterObjects) -> Result<String, CrdYamlError> {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!("# Meshwright {version}: the operator and all that it needs. Made by: meshwright install\n");
    let definition = meshwright_api::crd_yaml()?;
    for part in [NAMESPACE, &definition, SERVICE_ACCOUNT, rights].into_iter().chain(PARTS) {
        if !part.contains("\n---\n") {
            text.push_str("---\n");
        }
        text.push_str(part);
    }
    if cluster_objects == ClusterObjects::Preinstalled {
        text = text.replace(LAST_ARGUMENT, &format!("{LAST_ARGUMENT}            - --cluster-objects=preinstalled\n"));
    }
    Ok(text.replace(&format!("image: {IMAGE}\n"), &format!("image: \"{image}\"\n")))
}

/// Only what can name an image: whether there is such an image, the clusters will know.
fn image(text: &str) -> Result<String, String> {
    let wanted = "such as registry.example.com/platform/meshwright:0.1.0";
    match text.parse::<Reference>() {
        Err(error) => Err(format!("{error}: an image is needed, {wanted}")),
        // What is no host, since it has neither '.' nor ':', is part of the path.
        Ok(image) if image.repository().contains(|c: char| c.is_ascii_uppercase()) => {
            Err(format!("an image has no upper-case letters but in its tag, {wanted}"))
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

    fn usual(image: &str) -> String {
        manifest(image, RIGHTS, ClusterObjects::Managed).unwrap()
    }

    fn documents(text: &str) -> Vec<Value> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
        documents.into_iter().filter(|document| !document.is_null()).collect()
    }

    fn text<'a>(value: &'a Value, path: &str) -> &'a str {
        value.pointer(path).and_then(Value::as_str).unwrap_or_default()
    }

    /// Everything that a kustomization lists, and those that it lists in turn.
    fn listed(folder: &Path) -> Vec<Value> {
        let kustomization = &documents(&fs::read_to_string(folder.join("kustomization.yaml")).unwrap())[0];
        let resources = kustomization["resources"].as_array().unwrap();
        let path = |resource: &Value| -> PathBuf { folder.join(resource.as_str().unwrap()) };
        resources.iter().map(path).fold(Vec::new(), |mut found, path| {
            let more = if path.is_dir() { listed(&path) } else { documents(&fs::read_to_string(path).unwrap()) };
            found.extend(more);
            found
        })
    }

    #[test]
    fn the_manifest_is_what_the_kustomization_lists() {
        let by_name = |mut objects: Vec<Value>| {
            let name =
                |o: &Value| ["/kind", "/metadata/namespace", "/metadata/name"].map(|path| text(o, path).to_owned());
            objects.sort_by_key(name);
            objects
        };
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
        assert_eq!(by_name(documents(&usual(IMAGE))), by_name(listed(&config)));
    }

    #[test]
    fn with_rights_in_namespaces_alone_the_operator_knows_of_it_and_the_rest_is_the_same() {
        let [managed, preinstalled] = [ClusterObjects::Managed, ClusterObjects::Preinstalled]
            .map(|cluster_objects| documents(&manifest(IMAGE, committed(cluster_objects), cluster_objects).unwrap()));
        let rest = |objects: &[Value]| -> Vec<Value> {
            let is_right =
                |o: &&Value| text(o, "/kind").contains("Role") || text(o, "/metadata/name") == "istio-system";
            objects.iter().filter(|o| !is_right(o)).cloned().collect()
        };
        let (managed, mut preinstalled) = (rest(&managed), rest(&preinstalled));
        let args = preinstalled.last_mut().unwrap().pointer_mut("/spec/template/spec/containers/0/args").unwrap();
        assert_eq!(args.as_array_mut().unwrap().pop().unwrap(), "--cluster-objects=preinstalled");
        assert_eq!(managed, preinstalled);
    }

    #[test]
    fn what_others_need_comes_before_them() {
        let objects = documents(&usual(IMAGE));
        let place = |kind: &str, name: &str| {
            objects.iter().position(|o| text(o, "/kind") == kind && text(o, "/metadata/name") == name)
        };
        for (index, object) in objects.iter().enumerate() {
            let namespace = text(object, "/metadata/namespace");
            let needed = if namespace.is_empty() { Some(0) } else { place("Namespace", namespace) };
            assert!(needed.is_some_and(|needed| needed <= index), "{namespace} comes too late");
        }
        let last = objects.len() - 1;
        assert_eq!(place("Deployment", "meshwright"), Some(last), "the operator starts with all its rights");
        assert!(place("CustomResourceDefinition", "meshinstallations.meshwright.dev").is_some());
    }

    #[test]
    fn the_image_is_the_one_that_is_named() {
        let image = |manifest: &str| {
            let path = "/spec/template/spec/containers/0/image";
            text(documents(manifest).last().unwrap(), path).to_owned()
        };
        assert_eq!(image(&usual(IMAGE)), IMAGE);
        let theirs = format!("registry.example.com:5000/platform/meshwright@sha256:{}", "0f".repeat(32));
        let manifest = usual(&theirs);
        assert_eq!(image(&manifest), theirs);
        assert!(!manifest.contains(&format!("image: {IMAGE}")));
    }

    #[test]
    fn a_namespace_and_values_make_a_difference_with_a_catalog_alone() {
        let read = |args: &[&str]| {
            let words = [&["meshwright", "install"], args].concat();
            super::super::Cli::try_parse_from(words).map(|_| ()).map_err(|error| error.to_string())
        };
        read(&[]).unwrap();
        read(&["--catalog", "a:b", "--namespace", "mesh", "--values", "values.yaml"]).unwrap();
        for alone in [["--namespace", "mesh"], ["--values", "values.yaml"]] {
            let problem = read(&alone).unwrap_err();
            assert!(problem.contains("--catalog"), "{problem}");
        }
    }

    #[test]
    fn what_can_be_no_image_is_refused() {
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
