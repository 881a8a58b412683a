//! Changes as JSON patches that take effect at one version only.
//!
//! Only what differs is written, so that a field of a release to come, which this one does not know, survives. Giving
//! the resource version a value is what makes the API server compare: another one there is a conflict.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation};
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::crd::{LocalVolumeSpec, LocalVolumeStatus};
use super::entry::{Content, Entry, FINALIZER, finalizers};
use crate::volume::{LocalVolume, Spec, Status};

/// Fields of the status that are derived from spec and status: what is stored may be of another spec.
const DERIVED: [&str; 2] = ["phase", "size"];

/// Gives an object this spec, and the finalizers that go with it.
pub(super) fn spec(entry: &Entry, spec: &Spec) -> Patch {
    let mut changes = at_version(entry);
    let was = entry.spec().map(|was| fields(&LocalVolumeSpec::from(was))).unwrap_or_default();
    differences("spec", &was, &fields(&LocalVolumeSpec::from(spec)), &mut changes);
    let finalizers = finalizers(&entry.finalizers, spec);
    if finalizers[..] != entry.finalizers[..] && !entry.deleting {
        changes.push(add(&["metadata", "finalizers"], finalizers.into()));
    }
    Patch(changes)
}

/// Gives an object this status; absent if it cannot have one.
pub(super) fn status(entry: &Entry, status: Status) -> Option<Patch> {
    let mut changes = at_version(entry);
    let name = entry.name.clone();
    let volume = LocalVolume { name, spec: entry.spec()?.clone(), status };
    let mut now = fields(&LocalVolumeStatus::from(&volume));
    match &entry.content {
        Content::Volume(was) => {
            let was = fields(&LocalVolumeStatus::from(&**was));
            for field in DERIVED {
                if let Some(value) = now.remove(field) {
                    changes.push(add(&["status", field], value));
                }
            }
            differences("status", &was, &now, &mut changes);
        }
        _ => changes.push(add(&["status"], now.into())),
    }
    Some(Patch(changes))
}

/// Takes Berth's finalizer off an object that is to go.
pub(super) fn unfinalized(entry: &Entry) -> Patch {
    let others = entry.finalizers.iter().filter(|finalizer| *finalizer != FINALIZER);
    let others: Vec<_> = others.cloned().collect();
    let mut changes = at_version(entry);
    changes.push(add(&["metadata", "finalizers"], others.into()));
    Patch(changes)
}

fn at_version(entry: &Entry) -> Vec<PatchOperation> {
    let path = PointerBuf::from_tokens(["metadata", "resourceVersion"]);
    let value = entry.version.0.to_string().into();
    vec![PatchOperation::Replace(ReplaceOperation { path, value })]
}

/// What makes `was` into `now`, field by field.
fn differences(
    at: &str,
    was: &Map<String, Value>,
    now: &Map<String, Value>,
    changes: &mut Vec<PatchOperation>,
) {
    for (field, value) in now {
        if was.get(field) != Some(value) {
            changes.push(add(&[at, field], value.clone()));
        }
    }
    for field in
        was.keys().filter(|field| !now.contains_key(*field) && !DERIVED.contains(&field.as_str()))
    {
        let path = PointerBuf::from_tokens([at, field]);
        changes.push(PatchOperation::Remove(RemoveOperation { path }));
    }
}

fn add(path: &[&str], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path: PointerBuf::from_tokens(path.iter().copied()), value })
}

/// The fields of a struct that is an object in JSON; ours all are.
fn fields(of: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(of) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests;
