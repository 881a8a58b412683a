use serde_json::json;

use super::super::super::crd::Object;
use super::super::entry::FINALIZER;
use super::*;
use crate::volume::fixture::{available, claim, claimed_by, delete};
use crate::volume::{CleanMethod, Cleaning, Tenancy};

/// The object of a volume as the API server has it, with fields that this release does not know.
fn stored(volume: &LocalVolume) -> Value {
    let mut object = serde_json::to_value(Object::incomplete(volume)).unwrap();
    object["status"] = serde_json::to_value(LocalVolumeStatus::from(volume)).unwrap();
    object["metadata"]["resourceVersion"] = "7".into();
    object["spec"]["colour"] = "red".into();
    object["status"]["smell"] = "fresh".into();
    object
}

fn entry(volume: &LocalVolume) -> Entry {
    Entry::of_volume(volume, 7)
}

/// The object once the API server has taken the patch.
fn patched(volume: &LocalVolume, patch: &Patch) -> Value {
    let mut object = stored(volume);
    json_patch::patch(&mut object, patch).unwrap();
    assert_eq!(object["metadata"]["resourceVersion"], "7", "the patch is not bound to a version");
    assert_eq!(object["spec"]["colour"], "red");
    assert_eq!(object["status"]["smell"], "fresh");
    object
}

fn read(object: Value) -> LocalVolume {
    serde_json::from_value::<Object>(object).unwrap().volume().unwrap().unwrap()
}

#[test]
fn a_claim_is_written_with_its_finalizer_and_its_end_leaves_that_alone() {
    let free = available();
    let held = free.claimed(claim("pvc-1"), delete()).unwrap();

    let object = patched(&free, &spec(&entry(&free), &held));
    assert_eq!(object["metadata"]["finalizers"], json!([FINALIZER]));
    assert_eq!(read(object).spec, held);

    let held = claimed_by("pvc-1");
    let released = held.released(Tenancy(1)).unwrap();
    let object = patched(&held, &spec(&entry(&held), &released));
    assert!(object["metadata"]["finalizers"].is_null());
    assert_eq!(read(object).spec, released);
}

#[test]
fn a_status_is_replaced_whole_where_it_differs_and_nowhere_else() {
    let mut before = available();
    before.status.cleaning = Some(Box::new(Cleaning {
        tenancy: Tenancy(0),
        method: CleanMethod::Delete,
        started: jiff::Timestamp::UNIX_EPOCH,
        entries: 3,
        bytes: crate::volume::Bytes(0),
        remount: None,
    }));
    before.status.own_mounts = vec!["/mnt/x".into()];
    let mut after = before.status.clone();
    after.cleaning = None;
    after.own_mounts = vec!["/mnt/y".into()];

    let patch = status(&entry(&before), after.clone()).unwrap();

    let paths: Vec<_> = patch.0.iter().map(|change| change.path().to_string()).collect();
    let expected = [
        "/metadata/resourceVersion",
        "/status/phase",
        "/status/size",
        "/status/ownMounts",
        "/status/cleaning",
    ];
    assert_eq!(paths, expected);
    assert_eq!(read(patched(&before, &patch)).status, after);
}

#[test]
fn what_is_derived_is_written_even_if_nothing_else_is() {
    let held = claimed_by("pvc-1");
    let mut object = stored(&held);
    object["status"]["phase"] = "Available".into();

    let patch = status(&entry(&held), held.status.clone()).unwrap();
    json_patch::patch(&mut object, &patch).unwrap();

    assert_eq!(object["status"]["phase"], "Claimed");
}

#[test]
fn an_incomplete_object_gets_its_whole_status() {
    let volume = available();
    let mut object = serde_json::to_value(Object::incomplete(&volume)).unwrap();
    object["metadata"]["resourceVersion"] = "7".into();
    let content = Content::Incomplete(Box::new(volume.spec.clone()));
    let entry = Entry { content, ..entry(&volume) };

    json_patch::patch(&mut object, &status(&entry, volume.status.clone()).unwrap()).unwrap();

    assert_eq!(read(object), volume);
}

#[test]
fn taking_the_finalizer_off_leaves_those_of_others() {
    let held = claimed_by("pvc-1");
    let mut entry = entry(&held);
    entry.finalizers = [&entry.finalizers[..], &["example.org/mine".to_owned()]].concat().into();

    let object = patched(&held, &unfinalized(&entry));

    assert_eq!(object["metadata"]["finalizers"], json!(["example.org/mine"]));
}
