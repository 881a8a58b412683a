//! What the API server sends of an object, as far as Berth has use for it.
//!
//! Of the metadata only a few fields are kept. Who wrote which field (`managedFields`) is more than all the rest and is
//! passed over while it is read.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::super::crd::{LocalVolumeSpec, LocalVolumeStatus};
use super::uid::Uid;

/// An object.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) metadata: Metadata,
    /// What was decided and what was seen, or why this release does not understand it.
    pub(super) content: Result<(LocalVolumeSpec, Option<LocalVolumeStatus>), String>,
}

/// The part of an object's metadata that Berth looks at.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    #[serde(default)]
    pub(super) name: String,
    pub(super) uid: Option<Uid>,
    pub(super) resource_version: Option<String>,
    #[serde(default)]
    pub(super) finalizers: Vec<String>,
    #[serde(default, deserialize_with = "is_given")]
    pub(super) deletion_timestamp: bool,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    pub(super) metadata: PageMetadata,
    pub(super) items: Vec<Object>,
}

/// Where a page ends.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageMetadata {
    pub(super) resource_version: Option<String>,
    #[serde(rename = "continue")]
    pub(super) next: Option<String>,
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Parts {
            #[serde(default)]
            metadata: Metadata,
            #[serde(default)]
            spec: Value,
            status: Option<Value>,
        }
        let Parts { metadata, spec, status } = Parts::deserialize(deserializer)?;
        // One that cannot be read is known by its metadata all the same.
        let content = read("spec", spec)
            .and_then(|spec| Ok((spec, status.map(|status| read("status", status)).transpose()?)));
        Ok(Self { metadata, content })
    }
}

fn read<T: DeserializeOwned>(what: &str, value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| format!("its {what} is not understood: {error}"))
}

fn is_given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<IgnoredAny>::deserialize(deserializer)?.is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::crd;
    use super::*;
    use crate::volume::fixture::available;

    #[test]
    fn an_object_is_read_without_who_wrote_its_fields_and_known_where_it_is_not_understood() {
        let volume = available();
        let mut object = serde_json::to_value(crd::Object::incomplete(&volume)).unwrap();
        object["metadata"]["managedFields"] = json!([{"fieldsV1": {"f:spec": {}}}]);
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let read: Object = serde_json::from_value(object.clone()).unwrap();
        object["spec"]["mode"] = json!("Tape");
        let strange: Object = serde_json::from_value(object).unwrap();

        assert!(matches!(read.content, Ok((_, None))));
        assert!(read.metadata.deletion_timestamp);
        let why = strange.content.unwrap_err();
        assert!(why.contains("Tape"), "{why}");
        assert_eq!(strange.metadata.name, volume.name.as_str());
    }
}
