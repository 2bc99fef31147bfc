//! `meshwright uninstall`: whatever becomes of the mesh, nothing hangs and nothing of the operator stays.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, PostParams};
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, small};
use meshwright_e2e::{Lab, LabOptions, TestResult, apply, objects, run};

use crate::cli::{Ran, meshwright};
use crate::install_manifest::{DEFINITION, api, install, operator_is_gone, printed};
use crate::uninstall::marked;

async fn uninstall(lab: &Lab, args: &[&str]) -> TestResult<Ran> {
    meshwright(lab.kubeconfig(), &[&["uninstall"], args].concat()).await
}

async fn done(lab: &Lab, args: &[&str]) -> TestResult<String> {
    let ran = uninstall(lab, args).await?;
    assert_eq!(ran.code, Some(0), "{args:?}: {}{}", ran.out, ran.err);
    Ok(ran.out)
}

async fn refused(lab: &Lab, args: &[&str], why: &str) -> TestResult {
    let ran = uninstall(lab, args).await?;
    assert!(ran.code == Some(1) && ran.err.contains(why), "{args:?}: {}{}", ran.out, ran.err);
    Ok(())
}

/// What is left of what the manifest has made.
async fn left(lab: &Lab, mesh: &Mesh) -> TestResult<Vec<String>> {
    let mut left = Vec::new();
    for object in apply::parse("meshwright install", &printed(lab, &[]).await?)? {
        if api(mesh, &object).get_opt(&object.name_any()).await?.is_some() {
            left.push(object.name_any());
        }
    }
    Ok(left)
}

async fn mesh_with_operator(lab: &Lab) -> TestResult<Mesh> {
    install(lab, &[]).await?;
    let mesh = Mesh::of(lab.client());
    mesh.apply(NAME, small()).await?;
    mesh.wait_ready(NAME).await?;
    Ok(mesh)
}

#[test]
fn uninstall_leaves_nothing_that_hangs_whether_the_mesh_goes_or_stays_and_without_an_operator_too() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let mesh = mesh_with_operator(lab).await?;
        let istiods = mesh.api("apps/v1", "Deployment", Some("istio-system"));
        let istiod = istiods.get("istiod").await?.uid();

        // Nothing happens before it was said what becomes of the mesh, and before somebody said yes.
        refused(lab, &["--yes"], "there are MeshInstallations: mesh").await?;
        refused(lab, &["--meshes", "uninstall"], "say --yes").await?;
        let astray = ["--meshes", "orphan", "--yes", "--operator-namespace", "default"];
        refused(lab, &astray, "--operator-namespace meshwright-system").await?;
        let told = done(lab, &["--meshes", "orphan", "--dry-run"]).await?;
        assert!(told.contains("Deployment meshwright-system/meshwright: goes\n"), "{told}");
        assert!(mesh.installations().get(NAME).await?.metadata.deletion_timestamp.is_none());
        assert_eq!(left(lab, &mesh).await?.len(), apply::parse("", &printed(lab, &[]).await?)?.len());

        // The operator went first: a mesh can't be removed any more, but it can be let go.
        operator_is_gone(&mesh).await?;
        mesh.installations().delete(NAME, &DeleteParams::default()).await?;
        refused(lab, &["--meshes", "uninstall", "--yes"], "it isn't there").await?;
        done(lab, &["--meshes", "orphan", "--yes"]).await?;
        assert!(mesh.installations().get_opt(NAME).await?.is_none());
        assert_eq!(left(lab, &mesh).await?, [DEFINITION, "istio-system"]);
        assert_eq!(istiods.get("istiod").await?.uid(), istiod);

        // A mesh that is in use holds all of it up; it goes on when nobody needs the mesh any more.
        mesh_with_operator(lab).await?;
        assert_eq!(istiods.get("istiod").await?.uid(), istiod, "the new operator has taken it up");
        objects::namespace(&lab.client(), "shop", &[("istio-injection", "enabled")]).await?;
        let pods: Api<Pod> = Api::namespaced(lab.client(), "shop");
        pods.create(&PostParams::default(), &objects::pod("cart", &[("app", "cart")])).await?;
        let hurried = ["--meshes", "uninstall", "--crd", "--yes", "--timeout", "2"];
        refused(lab, &hurried, "MeshInstallation mesh is still there after 2 s").await?;
        objects::deployment_ready(&lab.client(), OPERATOR_NAMESPACE, "meshwright").await?;
        assert_eq!(istiods.get("istiod").await?.uid(), istiod);
        pods.delete("cart", &DeleteParams::default()).await?;
        done(lab, &["--meshes", "uninstall", "--crd", "--yes"]).await?;
        assert_eq!(left(lab, &mesh).await?, ["istio-system"]);
        assert_eq!(marked(&mesh).await?, Vec::<String>::new());
        assert!(istiods.get_opt("istiod").await?.is_none());
        assert!(mesh.api("v1", "Secret", Some("istio-system")).get_opt("istio-ca-secret").await?.is_some());

        // A running operator takes its marks off a mesh that it leaves.
        mesh_with_operator(lab).await?;
        let istiod = istiods.get("istiod").await?.uid();
        done(lab, &["--meshes", "orphan", "--yes"]).await?;
        assert_eq!(left(lab, &mesh).await?, [DEFINITION, "istio-system"]);
        assert_eq!(marked(&mesh).await?, Vec::<String>::new());
        assert_eq!(istiods.get("istiod").await?.uid(), istiod);

        // What is left goes later, and then there is nothing to do.
        done(lab, &["--crd", "--yes"]).await?;
        assert_eq!(left(lab, &mesh).await?, ["istio-system"]);
        assert_eq!(done(lab, &[]).await?, "the operator: isn't there\n");
        Ok(())
    });
}
