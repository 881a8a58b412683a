//! The `LocalVolume` custom resource: a volume as an object of the Kubernetes API, and the way there and back.
//!
//! The `CustomResourceDefinition` is generated from these types; `berth crd` prints it and `deploy/crd.yaml` holds it. What
//! the API server can refuse by itself it refuses, so that a mistake by hand, or of an agent, breaks no rule. What is
//! derived for people to read (`phase`, `size`) is written with the status and never read back.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResource, CustomResourceExt, KubeSchema};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Cause;
use crate::volume::{
    Bytes, Claim, CleanPolicy, Cleaning, Condition, Conditions, Fingerprint, Format, InvalidName,
    LocalVolume, Mode, NodeName, Place, PoolName, Published, RootAttributes, Spec, Status, Tenancy,
    Wipe,
};

/// What was decided about a volume: by its node's agent at discovery, then by the controller and by people.
#[derive(Debug, Clone, PartialEq, CustomResource, KubeSchema, Serialize, Deserialize)]
#[kube(
    group = "berth.dev",
    version = "v1alpha1",
    kind = "LocalVolume",
    plural = "localvolumes",
    root = "Object",
    status = "LocalVolumeStatus",
    derive = "PartialEq",
    doc = "A directory, mount point or block device on one node, who holds it, and whether it may be claimed.",
    shortname = "lv",
    shortname = "localvol",
    category = "berth",
    selectable = ".spec.node",
    selectable = ".spec.pool",
    printcolumn(name = "Pool", type_ = "string", json_path = ".spec.pool"),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.node"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Capacity", type_ = "string", json_path = ".status.size"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Claim", type_ = "string", json_path = ".spec.claim.name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Path", type_ = "string", json_path = ".status.path", priority = 1),
    printcolumn(
        name = "Health",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Healthy\")].reason",
        priority = 1
    ),
    printcolumn(
        name = "Clean",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Clean\")].reason",
        priority = 1
    ),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.claim.pvc.namespace", priority = 1),
    printcolumn(name = "PVC", type_ = "string", json_path = ".spec.claim.pvc.name", priority = 1),
    validation = Rule::new("self.metadata.name.size() <= 100")
        .message("a volume's name has at most 100 bytes"),
    validation = Rule::new("!has(self.status) || !has(self.status.cleanFor) || \
        self.status.cleanFor <= self.spec.tenancy - (has(self.spec.claim) ? 1 : 0)")
        .message("a volume is not clean for a tenancy that is to come, nor for the one that holds it"),
    validation = Rule::new("has(oldSelf.spec.claim) || !has(self.spec.claim) || !has(self.status) || \
        (has(self.status.cleanFor) && self.status.cleanFor == oldSelf.spec.tenancy)")
        .message("only a clean volume may be claimed"),
    validation = Rule::new("has(oldSelf.spec.claim) || !has(self.spec.claim) || !oldSelf.spec.cordoned")
        .message("a cordoned volume may not be claimed"),
)]
#[x_kube(
    validation = Rule::new("self.tenancy == oldSelf.tenancy + \
        (has(self.claim) && !has(oldSelf.claim) ? 1 : 0)")
        .message("the tenancy grows by one when a claim begins, and at no other time"),
    validation = Rule::new("!has(self.claim) || !has(oldSelf.claim) || self.claim == oldSelf.claim")
        .message("a claim does not change until it ends: release it first"),
    validation = Rule::new("!has(self.claim) || !has(oldSelf.claim) || (has(self.clean) == has(oldSelf.clean) && \
        (!has(self.clean) || self.clean == oldSelf.clean))")
        .message("how a volume is wiped after a claim was agreed when the claim began")
)]
#[serde(rename_all = "camelCase")]
pub struct LocalVolumeSpec {
    /// The node that owns it.
    #[x_kube(validation = Rule::new("self == oldSelf").message("a volume stays on its node"))]
    pub node: NodeName,
    /// The pool that it belongs to.
    #[x_kube(validation = Rule::new("self == oldSelf").message("a volume stays in its pool"))]
    pub pool: PoolName,
    /// What a claim gets from it.
    #[x_kube(validation = Rule::new("self == oldSelf").message("a volume keeps its mode"))]
    pub mode: Mode,
    /// The number of its latest tenancy: one claim's stay. The CSI id of a tenancy is NAME@TENANCY.
    pub tenancy: Tenancy,
    /// Who holds it; absent when it is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Box<Claim>>,
    /// The order to wipe it once nobody holds it; absent while nobody has ordered a wipe, as for a newly found volume
    /// that holds data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean: Option<CleanPolicy>,
    /// When a person last asked for that wipe; asking again has one that failed tried at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean_asked: Option<Timestamp>,
    /// Whether a person said that it is not to be claimed again.
    #[serde(default)]
    pub cordoned: bool,
}

/// What the volume's node agent saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalVolumeStatus {
    /// Available, Cordoned, Claimed, Cleaning, Dirty or Lost: for people to read, never decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The capacity for people to read, for example 9.8Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Where it was last seen: the entry in its pool's directory.
    #[schemars(length(max = 4096), regex(pattern = "^/"))]
    pub path: String,
    /// What it is.
    pub fingerprint: Fingerprint,
    /// Where it lies on what holds it, for telling what overlaps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Other entries of pools at which it was seen.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub other_paths: BTreeSet<String>,
    /// Its bytes.
    pub capacity: Bytes,
    /// The type of its file system; absent for a device without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs_type: Option<String>,
    /// The tenancy after which it was last known empty and wiped; absent while that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean_for: Option<Tenancy>,
    /// Whether it is offered with the data that was on it.
    #[serde(default)]
    pub accepted: bool,
    /// Healthy: present, the same as ever, readable. Clean: known empty and wiped since its latest tenancy.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<ObjectCondition>,
    /// The wipe under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleaning: Option<Box<Cleaning>>,
    /// The latest wipe that has ended. The node's agent keeps more of them: `berth wipes` there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_wipe: Option<Box<Wipe>>,
    /// Where it is mounted for its tenant now: the staging path and every target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
    /// Mount points of it that were there while it was free, and so are the administrator's and not a tenant's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own_mounts: Vec<String>,
    /// The same in the mount namespace of the host, which the agent's does not show all of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_mounts: Vec<String>,
    /// How its root directory looked at discovery, put back by every wipe; absent for a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Arc<RootAttributes>>,
    /// The file system that Berth made on it for a tenancy; only for a device in a Filesystem pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Box<Format>>,
    /// The UID of the Node on which it was seen: a Node that comes back under the same name is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_uid: Option<String>,
}

/// A condition as every object of Kubernetes has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Condition")]
#[serde(rename_all = "camelCase")]
pub struct ObjectCondition {
    /// Healthy or Clean.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in CamelCase and stable between releases.
    pub reason: String,
    /// Why, in one sentence for people.
    pub message: String,
    /// When the status last changed.
    pub last_transition_time: Timestamp,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody knows. Berth does not write this and reads it as `False`.
    Unknown,
}

/// Why an object is not a volume: a newer release wrote it, or a person did.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Its name cannot be a volume's.
    #[error("its name is not a volume's")]
    Name(#[from] InvalidName),
    /// A condition is missing.
    #[error("it has no condition {0}")]
    NoCondition(&'static str),
    /// A condition has a reason that this release does not know.
    #[error("condition {kind} has the reason {reason:?}, which this release does not know")]
    Reason {
        /// The condition.
        kind: &'static str,
        /// The reason.
        reason: String,
        /// What the parser says.
        #[source]
        source: Cause,
    },
}

const HEALTHY: &str = "Healthy";
const CLEAN: &str = "Clean";

/// The `CustomResourceDefinition`.
pub fn definition() -> Result<CustomResourceDefinition, Cause> {
    let mut definition = serde_json::to_value(Object::crd())?;
    simplify(&mut definition);
    Ok(serde_json::from_value(definition)?)
}

/// The `CustomResourceDefinition` as YAML.
pub fn yaml() -> Result<String, Cause> {
    Ok(serde_saphyr::to_string(&definition()?)?)
}

/// Takes out of a schema what Kubernetes has no use for: formats that it does not know, names of Rust types, and `null`,
/// which its API server prunes where the schema does not allow it.
fn simplify(schema: &mut Value) {
    match schema {
        Value::Object(keys) => {
            keys.retain(|key, value| !(key == "nullable" && value.is_boolean()));
            keys.retain(|key, value| !(key == "title" && value.is_string()));
            if let Some(format @ Value::String(_)) = keys.get_mut("format")
                && (*format == "uint32" || *format == "uint64")
            {
                *format = "int64".into();
            }
            keys.values_mut().for_each(simplify);
        }
        Value::Array(items) => items.iter_mut().for_each(simplify),
        _ => {}
    }
}

impl Object {
    /// The object of a volume that is being added: without a status, and so not yet complete.
    pub fn incomplete(volume: &LocalVolume) -> Self {
        Self::new(volume.name.as_str(), LocalVolumeSpec::from(&volume.spec))
    }

    /// The volume that this object records; absent while the object has no status, which makes it incomplete.
    pub fn volume(&self) -> Result<Option<LocalVolume>, Unreadable> {
        let Some(status) = &self.status else { return Ok(None) };
        let name = self.metadata.name.clone().unwrap_or_default().parse()?;
        let spec = Spec::from(self.spec.clone());
        Ok(Some(LocalVolume { name, spec, status: status.clone().read()? }))
    }
}

impl From<&Spec> for LocalVolumeSpec {
    fn from(spec: &Spec) -> Self {
        let Spec { node, pool, mode, tenancy, claim, clean, clean_asked, cordoned } = spec.clone();
        Self { node, pool, mode, tenancy, claim, clean, clean_asked, cordoned }
    }
}

impl From<LocalVolumeSpec> for Spec {
    fn from(spec: LocalVolumeSpec) -> Self {
        let LocalVolumeSpec { node, pool, mode, tenancy, claim, clean, clean_asked, cordoned } =
            spec;
        Self { node, pool, mode, tenancy, claim, clean, clean_asked, cordoned }
    }
}

impl From<&LocalVolume> for LocalVolumeStatus {
    fn from(volume: &LocalVolume) -> Self {
        let status = volume.status.clone();
        let Conditions { healthy, clean } = status.conditions;
        Self {
            phase: Some(volume.phase().to_string()),
            size: Some(status.capacity.to_string()),
            path: status.path.into(),
            fingerprint: status.fingerprint,
            place: status.place,
            other_paths: status.other_paths,
            capacity: status.capacity,
            fs_type: status.fs_type.map(Into::into),
            clean_for: status.clean_for,
            accepted: status.accepted,
            conditions: vec![
                ObjectCondition::new(HEALTHY, healthy.reason.as_str(), &healthy),
                ObjectCondition::new(CLEAN, clean.reason.as_str(), &clean),
            ],
            cleaning: status.cleaning,
            last_wipe: status.last_wipe,
            published: status.published,
            own_mounts: status.own_mounts,
            host_mounts: status.host_mounts,
            root: status.root,
            format: status.format,
            node_uid: status.node_uid.map(Into::into),
        }
    }
}

impl LocalVolumeStatus {
    /// What was seen, if this release understands all of it.
    pub(super) fn read(self) -> Result<Status, Unreadable> {
        let status = self;
        let conditions = Conditions {
            healthy: condition(&status.conditions, HEALTHY)?,
            clean: condition(&status.conditions, CLEAN)?,
        };
        Ok(Status {
            path: status.path.into(),
            fingerprint: status.fingerprint,
            place: status.place,
            other_paths: status.other_paths,
            capacity: status.capacity,
            fs_type: status.fs_type.map(Into::into),
            clean_for: status.clean_for,
            accepted: status.accepted,
            conditions,
            cleaning: status.cleaning,
            last_wipe: status.last_wipe,
            published: status.published,
            own_mounts: status.own_mounts,
            host_mounts: status.host_mounts,
            root: status.root,
            format: status.format,
            node_uid: status.node_uid.map(Into::into),
        })
    }
}

impl ObjectCondition {
    fn new<R>(kind: &str, reason: &str, condition: &Condition<R>) -> Self {
        Self {
            kind: kind.to_owned(),
            status: if condition.status { ConditionStatus::True } else { ConditionStatus::False },
            reason: reason.to_owned(),
            message: condition.message.to_string(),
            last_transition_time: condition.since,
        }
    }
}

fn condition<R: DeserializeOwned>(
    conditions: &[ObjectCondition],
    kind: &'static str,
) -> Result<Condition<R>, Unreadable> {
    let found = conditions.iter().find(|condition| condition.kind == kind);
    let found = found.ok_or(Unreadable::NoCondition(kind))?;
    let reason = Value::from(found.reason.clone());
    let reason = serde_json::from_value(reason).map_err(|source| {
        let reason = found.reason.clone();
        Unreadable::Reason { kind, reason, source: Box::new(source) }
    })?;
    Ok(Condition {
        status: found.status == ConditionStatus::True,
        reason,
        message: found.message.as_str().into(),
        since: found.last_transition_time,
    })
}

#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
#[cfg(test)]
mod tests;
