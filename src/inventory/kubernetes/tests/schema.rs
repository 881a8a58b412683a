//! What the API server itself refuses, and what it shows.

use http::Request;

use super::*;
use crate::volume::CleanReason;

/// What the API server says to a person who changes an object so.
async fn refusal(place: &Cluster, volume: &LocalVolume, change: Value) -> String {
    let answer = place.patch(volume, change.clone()).await;
    let error = answer.err().unwrap_or_else(|| panic!("{change} was taken"));
    let kube::Error::Api(status) = error else { panic!("{error}") };
    assert_eq!(status.code, 422, "{}", status.message);
    status.message
}

fn some_claim(name: &str) -> Value {
    json!({"name": name, "at": "2026-11-24T10:00:00Z"})
}

#[tokio::test]
async fn the_api_server_refuses_what_would_break_a_rule_about_a_free_volume() {
    let (place, store) = cluster!();
    let mut free = volume(1);
    free.spec.tenancy = Tenancy(5);
    free.status.clean_for = Some(Tenancy(5));
    let free = store.add(free).await.unwrap().volume;

    for (spec, why) in [
        (json!({"node": "node-b"}), "stays on its node"),
        (json!({"pool": "slow"}), "stays in its pool"),
        (json!({"mode": "Block"}), "keeps its mode"),
        (json!({"tenancy": 4}), "grows by one when a claim begins"),
        (json!({"tenancy": 6}), "grows by one when a claim begins"),
        (json!({"claim": some_claim("pvc-1")}), "grows by one when a claim begins"),
        (json!({"claim": some_claim("pvc-1"), "tenancy": 7}), "grows by one when a claim begins"),
        (json!({"claim": {"name": ""}, "tenancy": 6}), "spec.claim.name"),
        (json!({"clean": {"method": "burn"}}), "spec.clean.method"),
    ] {
        let message = refusal(&place, &free, json!({"spec": spec})).await;
        assert!(message.contains(why), "{spec}: {message}");
    }
}

#[tokio::test]
async fn the_api_server_refuses_a_claim_on_what_is_dirty_or_cordoned() {
    let (place, store) = cluster!();
    let mut dirty = volume(1);
    dirty.status.clean_for = None;
    dirty.status.conditions.clean = holds(false, CleanReason::FoundData);
    let dirty = store.add(dirty).await.unwrap().volume;
    let mut cordoned = volume(2);
    cordoned.spec.cordoned = true;
    let cordoned = store.add(cordoned).await.unwrap().volume;

    for (volume, why) in [(dirty, "only a clean volume"), (cordoned, "a cordoned volume")] {
        let claim = json!({"spec": {"claim": some_claim("pvc-1"), "tenancy": 1}});
        let message = refusal(&place, &volume, claim).await;
        assert!(message.contains(why), "{message}");
    }
}

#[tokio::test]
async fn the_api_server_refuses_what_would_break_a_rule_about_a_held_volume() {
    let (place, store) = cluster!();
    let free = store.add(volume(1)).await.unwrap();
    let spec = held_by("pvc-1", &free);
    let held = store.decide(&free.volume.name, free.version, spec).await.unwrap();

    for (spec, why) in [
        (json!({"claim": {"name": "pvc-2"}}), "does not change until it ends"),
        (json!({"claim": {"range": {"required": 1}}}), "does not change until it ends"),
        (json!({"tenancy": 2}), "grows by one when a claim begins"),
        (json!({"clean": {"method": "none"}}), "agreed when the claim began"),
        (json!({"clean": null}), "agreed when the claim began"),
    ] {
        let message = refusal(&place, &held.volume, json!({"spec": spec})).await;
        assert!(message.contains(why), "{spec}: {message}");
    }
    let mut clean = held.volume.status.clone();
    clean.clean_for = Some(held.volume.spec.tenancy);
    let wiped = store.observe(&held.volume.name, held.version, clean).await;
    assert!(matches!(wiped, Err(Error::NotWritten { .. })), "{wiped:?}");
}

#[tokio::test]
async fn a_volume_is_found_by_its_node_and_pool() {
    let (place, store) = cluster!();
    store.add(on("node-a", "fast", "v1", Bytes(1))).await.unwrap();
    store.add(on("node-b", "fast", "v1", Bytes(1))).await.unwrap();
    store.add(on("node-b", "slow", "v1", Bytes(1))).await.unwrap();

    for (fields, count) in [("spec.node=node-b", 2), ("spec.pool=fast,spec.node=node-b", 1)] {
        let found = place.objects().list(&ListParams::default().fields(fields)).await.unwrap();
        assert_eq!(found.items.len(), count, "{fields}");
    }
}

#[tokio::test]
async fn what_kubectl_shows_is_what_a_person_looks_for() {
    let (place, store) = cluster!();
    let free = store.add(volume(1)).await.unwrap();
    let spec = held_by("pvc-1", &free);
    let held = store.decide(&free.volume.name, free.version, spec).await.unwrap();
    let status = held.volume.status.clone();
    store.observe(&held.volume.name, held.version, status).await.unwrap();

    let asked = Request::get("/apis/berth.dev/v1alpha1/localvolumes")
        .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new())
        .unwrap();
    let answer = place.server().await.client().request_text(asked).await.unwrap();

    let table: Value = serde_json::from_str(&answer).unwrap();
    let shown: Vec<_> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .zip(table["rows"][0]["cells"].as_array().unwrap())
        .map(|(column, cell)| (column["name"].as_str().unwrap(), cell.as_str().unwrap_or("-")))
        .filter(|(column, _)| *column != "Age")
        .collect();
    let expected = [
        ("Name", free.volume.name.as_str()),
        ("Pool", "fast"),
        ("Node", "node-a"),
        ("Mode", "Filesystem"),
        ("Capacity", "1Gi"),
        ("Phase", "Claimed"),
        ("Claim", "pvc-1"),
        ("Path", "/mnt/fast/v1"),
        ("Health", "Present"),
        ("Clean", "FoundEmpty"),
        ("Namespace", "-"),
        ("PVC", "-"),
    ];
    assert_eq!(shown, expected);
}
