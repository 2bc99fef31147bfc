//! Live objects as JSON.

use std::borrow::Cow;

use kube::Resource;
use kube::api::ObjectMeta;
use kube::core::{ApiResource, DynamicResourceScope};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// An object of any kind as plain JSON. kube's `DynamicObject` needs twice the memory during deserialization, which
/// matters for CRDs: they determine the process's peak memory.
#[derive(Clone, Debug)]
pub(crate) struct RawObject {
    metadata: ObjectMeta,
    value: Value,
}

impl RawObject {
    /// The whole object.
    pub(crate) fn value(&self) -> &Value {
        &self.value
    }

    /// Takes the whole object.
    pub(crate) fn into_value(self) -> Value {
        self.value
    }
}

impl From<Value> for RawObject {
    /// Wraps an object for a request. Its metadata stays empty, as only that of responses is read.
    fn from(value: Value) -> Self {
        Self { metadata: ObjectMeta::default(), value }
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let metadata = value.get("metadata").map(ObjectMeta::deserialize).transpose().map_err(D::Error::custom)?;
        Ok(Self { metadata: metadata.unwrap_or_default(), value })
    }
}

impl Serialize for RawObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl Resource for RawObject {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt as _;
    use serde_json::json;

    use super::*;

    #[test]
    fn round_trips_json_and_exposes_metadata() {
        let object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "u"}, "data": {"a": "1"}});
        let read: RawObject = serde_json::from_value(object.clone()).unwrap();
        assert_eq!((read.name_any(), read.uid()), ("a".to_owned(), Some("u".to_owned())));
        assert_eq!(serde_json::to_value(&read).unwrap(), object);
        assert_eq!(read.into_value(), object);
    }

    #[test]
    fn rejects_invalid_metadata() {
        assert!(serde_json::from_value::<RawObject>(json!({"metadata": {"name": 1}})).is_err());
    }
}
