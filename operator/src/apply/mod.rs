//! EFFECTS: everything that reads live objects for the controller or writes them. What to write is decided in
//! [`crate::mesh`]; here it only happens. Nothing else in the crate writes mesh objects.

mod applier;
mod changes;
mod error;
mod gateway_api;
mod gateway_pods;
mod inventory;
mod nodes;
mod probe;
mod raw_object;
mod reader;
mod revisions;
mod rights;
mod survey;
mod symptoms;
mod watch;

pub use applier::Applier;
pub use changes::Changes;
pub(crate) use error::absent;
pub use error::{ApplyError, ErrorClass};
pub use gateway_api::{DEFINITION as GATEWAY_API_DEFINITION, GatewayApi, VERSION_ANNOTATION as GATEWAY_API_VERSION};
pub use gateway_pods::{GatewayPods, GatewayPodsError};
pub use inventory::Inventory;
pub use nodes::Nodes;
pub use probe::{Prober, Proof};
pub(crate) use raw_object::RawObject;
pub use reader::Reader;
pub(crate) use reader::api;
pub use revisions::{RevisionError, Revisions};
pub use rights::OwnRights;
pub(crate) use rights::{attributes, holds};
pub use survey::{SurveyError, Surveyor};
pub use symptoms::Symptoms;
pub(crate) use symptoms::selector;
pub use watch::watch_all;
