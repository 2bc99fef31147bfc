//! Health of a deployed mesh in the states in which its revision is not rendered: status must not go stale there.

use kube::ResourceExt as _;
use meshwright_api::MeshInstallation;

use super::cluster_scoped::drop_cluster_scoped;
use super::context::Context;
use crate::mesh::cluster_scoped::ClusterScopedResources;
use crate::mesh::health::Health;

/// Measures the mesh from live objects; `None` if none has been deployed.
pub fn measure_unrendered(context: &Context, installation: &MeshInstallation) -> Option<Health> {
    let status = installation.status.as_ref().filter(|status| status.version.running.is_some())?;
    let mut live = context.inventory.snapshot(&installation.name_any(), &[]);
    drop_cluster_scoped(context, &mut live);
    let manages_webhooks = context.options.cluster_scoped_resources == ClusterScopedResources::Managed;
    Some(Health::of_live(status, &live, manages_webhooks))
}
