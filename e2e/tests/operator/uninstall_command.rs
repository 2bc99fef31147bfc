//! `meshwright uninstall` removes the operator completely, with or without the mesh.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, PostParams};
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, demo_spec};
use meshwright_e2e::{Lab, LabOptions, TestResult, apply, objects, run};

use crate::cli::{CommandOutput, meshwright};
use crate::install_manifest::{CRD, api, delete_operator, install, manifest};
use crate::uninstall::owned_objects;

async fn uninstall(lab: &Lab, args: &[&str]) -> TestResult<CommandOutput> {
    meshwright(lab.kubeconfig(), &[&["uninstall"], args].concat()).await
}

async fn uninstall_ok(lab: &Lab, args: &[&str]) -> TestResult<String> {
    let output = uninstall(lab, args).await?;
    assert_eq!(output.code, Some(0), "{args:?}: {}{}", output.stdout, output.stderr);
    Ok(output.stdout)
}

async fn assert_fails(lab: &Lab, args: &[&str], text: &str) -> TestResult {
    let output = uninstall(lab, args).await?;
    assert!(output.code == Some(1) && output.stderr.contains(text), "{args:?}: {}{}", output.stdout, output.stderr);
    Ok(())
}

/// Names of the manifest's objects that exist.
async fn remaining(lab: &Lab, mesh: &Mesh) -> TestResult<Vec<String>> {
    let mut remaining = Vec::new();
    for object in apply::parse("meshwright install", &manifest(lab, &[]).await?)? {
        if api(mesh, &object).get_opt(&object.name_any()).await?.is_some() {
            remaining.push(object.name_any());
        }
    }
    Ok(remaining)
}

async fn install_operator_and_mesh(lab: &Lab) -> TestResult<Mesh> {
    install(lab, &[]).await?;
    let mesh = Mesh::connect(lab.client());
    mesh.apply(NAME, demo_spec()).await?;
    mesh.wait_ready(NAME).await?;
    Ok(mesh)
}

#[test]
fn uninstall_command_removes_operator_in_any_state() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let mesh = install_operator_and_mesh(lab).await?;
        let istiods = mesh.api("apps/v1", "Deployment", Some("istio-system"));
        let istiod = istiods.get("istiod").await?.uid();

        // The command requires --meshes and --yes before it deletes anything.
        assert_fails(lab, &["--yes"], "MeshInstallations exist: mesh").await?;
        assert_fails(lab, &["--meshes", "uninstall"], "confirm with --yes").await?;
        let wrong_namespace = ["--meshes", "orphan", "--yes", "--operator-namespace", "default"];
        assert_fails(lab, &wrong_namespace, "--operator-namespace meshwright-system").await?;
        let plan = uninstall_ok(lab, &["--meshes", "orphan", "--dry-run"]).await?;
        assert!(plan.contains("Deployment meshwright-system/meshwright: will be deleted\n"), "{plan}");
        assert!(mesh.installations().get(NAME).await?.metadata.deletion_timestamp.is_none());
        assert_eq!(remaining(lab, &mesh).await?.len(), apply::parse("", &manifest(lab, &[]).await?)?.len());

        // Without an operator a mesh can't be uninstalled, but it can be orphaned.
        delete_operator(&mesh).await?;
        mesh.installations().delete(NAME, &DeleteParams::default()).await?;
        assert_fails(lab, &["--meshes", "uninstall", "--yes"], "it is not installed").await?;
        uninstall_ok(lab, &["--meshes", "orphan", "--yes"]).await?;
        assert!(mesh.installations().get_opt(NAME).await?.is_none());
        assert_eq!(remaining(lab, &mesh).await?, [CRD, "istio-system"]);
        assert_eq!(istiods.get("istiod").await?.uid(), istiod);

        // The uninstallation waits while the mesh is in use.
        install_operator_and_mesh(lab).await?;
        assert_eq!(istiods.get("istiod").await?.uid(), istiod, "the new operator should take over the mesh");
        objects::namespace(&lab.client(), "shop", &[("istio-injection", "enabled")]).await?;
        let pods: Api<Pod> = Api::namespaced(lab.client(), "shop");
        pods.create(&PostParams::default(), &objects::pod("cart", &[("app", "cart")])).await?;
        let with_timeout = ["--meshes", "uninstall", "--crd", "--yes", "--timeout", "2"];
        assert_fails(lab, &with_timeout, "MeshInstallation mesh still exists after 2 s").await?;
        objects::deployment_ready(&lab.client(), OPERATOR_NAMESPACE, "meshwright").await?;
        assert_eq!(istiods.get("istiod").await?.uid(), istiod);
        pods.delete("cart", &DeleteParams::default()).await?;
        uninstall_ok(lab, &["--meshes", "uninstall", "--crd", "--yes"]).await?;
        assert_eq!(remaining(lab, &mesh).await?, ["istio-system"]);
        assert_eq!(owned_objects(&mesh).await?, Vec::<String>::new());
        assert!(istiods.get_opt("istiod").await?.is_none());
        assert!(mesh.api("v1", "Secret", Some("istio-system")).get_opt("istio-ca-secret").await?.is_some());

        // A running operator removes its ownership metadata from an orphaned mesh.
        install_operator_and_mesh(lab).await?;
        let istiod = istiods.get("istiod").await?.uid();
        uninstall_ok(lab, &["--meshes", "orphan", "--yes"]).await?;
        assert_eq!(remaining(lab, &mesh).await?, [CRD, "istio-system"]);
        assert_eq!(owned_objects(&mesh).await?, Vec::<String>::new());
        assert_eq!(istiods.get("istiod").await?.uid(), istiod);

        // The CRD can be deleted later; after that the command has nothing to do.
        uninstall_ok(lab, &["--crd", "--yes"]).await?;
        assert_eq!(remaining(lab, &mesh).await?, ["istio-system"]);
        assert_eq!(uninstall_ok(lab, &[]).await?, "the operator: not installed\n");
        Ok(())
    });
}
