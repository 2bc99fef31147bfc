//! The keys that istiod of a release knows in its configuration.

use super::ReleaseTypes;
use super::schema::SCHEMA;

/// The type of a field, by either of its names.
pub(in crate::mesh) fn field_type(types: ReleaseTypes, message: &str, name: &str) -> Option<&'static str> {
    types.field(message, name).map(|(_, type_name)| type_name)
}

/// The JSON names of a message's fields.
pub(in crate::mesh) fn field_names(types: ReleaseTypes, message: &str) -> impl Iterator<Item = &'static str> {
    let fields =
        SCHEMA.messages.get(message).into_iter().flatten().filter(|(_, type_name)| !type_name.starts_with('='));
    fields.map(|(name, _)| name.as_str()).filter(move |name| types.field(message, name).is_some())
}

/// The message that a type is, or that its list entries are. Scalars, maps and free-form types are none.
pub(in crate::mesh) fn message_of(types: ReleaseTypes, type_name: &'static str) -> Option<&'static str> {
    let element = type_name.strip_prefix("[]").unwrap_or(type_name);
    (types.is_message(element) && !element.starts_with("google.protobuf.")).then_some(element)
}
