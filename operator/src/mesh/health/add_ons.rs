//! Health of add-ons: told, and never in the way of Ready. The mesh is there for applications, and serves them without.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshwright_api::ComponentStatus;

use super::{component, key, serves, waiting_for, workload};
use crate::mesh::kind::Kind;
use crate::mesh::live::LiveObjects;
use crate::mesh::object::Desired;
use crate::mesh::validated::Validated;

/// Measures the add-ons; and what those wait for that don't serve.
pub(super) fn measure(
    validated: &Validated,
    desired: &[Arc<Desired>],
    live: &LiveObjects,
) -> (Vec<ComponentStatus>, BTreeMap<String, String>) {
    let mut lagging = BTreeMap::new();
    let mut components = Vec::new();
    for add_on in &validated.add_ons {
        let name = add_on.name.as_str();
        let key = key(Kind::Deployment, &validated.namespace, name);
        let workload = workload(live, &key);
        let mut told = component(name, &validated.namespace, &add_on.version, workload.as_ref());
        if !workload.as_ref().is_some_and(|workload| serves(desired, &key, workload)) {
            let waits = waiting_for(name, workload.as_ref()).message;
            told.message.get_or_insert_with(|| waits.clone());
            lagging.insert(name.to_owned(), waits);
        }
        components.push(told);
    }
    (components, lagging)
}
