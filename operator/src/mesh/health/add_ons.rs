//! Health of add-ons. It is reported but never blocks Ready, since the mesh works without them.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshwright_api::ComponentStatus;

use super::{component, is_workload_ready, key, waiting_for, workload};
use crate::mesh::kind::Kind;
use crate::mesh::object::DesiredObject;
use crate::mesh::observed::ObservedObjects;
use crate::mesh::validated::ValidatedSpec;

/// Status of each add-on, and why add-ons are not ready, by name.
pub(super) fn measure(
    validated: &ValidatedSpec,
    desired: &[Arc<DesiredObject>],
    live: &ObservedObjects,
) -> (Vec<ComponentStatus>, BTreeMap<String, String>) {
    let mut unready_add_ons = BTreeMap::new();
    let mut components = Vec::new();
    for add_on in &validated.add_ons {
        let name = add_on.name.as_str();
        let key = key(Kind::Deployment, &validated.namespace, name);
        let workload = workload(live, &key);
        let mut status = component(name, &validated.namespace, &add_on.version, workload.as_ref());
        if !workload.as_ref().is_some_and(|workload| is_workload_ready(desired, &key, workload)) {
            let reason = waiting_for(name, workload.as_ref()).message;
            status.message.get_or_insert_with(|| reason.clone());
            unready_add_ons.insert(name.to_owned(), reason);
        }
        components.push(status);
    }
    (components, unready_add_ons)
}
