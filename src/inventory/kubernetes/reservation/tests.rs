use super::*;
use crate::volume::fixture::{available, claim, delete};

fn wish(name: &str) -> Wish {
    let volume = available();
    let spec = volume.claimed(claim(name), delete()).unwrap();
    Wish { claim: name.parse().unwrap(), volume: volume.name, version: Version(7), spec }
}

/// The Lease of a wish as the API server gives it back.
fn stored(wish: &Wish) -> Lease {
    let mut lease = wish.lease().unwrap();
    lease.metadata.uid = Some("uid-1".into());
    lease.metadata.resource_version = Some("9".into());
    lease
}

#[test]
fn a_wish_survives_being_a_lease() {
    for name in ["pvc-1", "a name\nwith \u{1F980} and spaces", &"x".repeat(128)] {
        let wish = wish(name);
        assert_eq!(Reservation::read(stored(&wish)).unwrap().wish, wish);
    }
}

#[test]
fn the_name_of_a_reservation_is_legal_and_every_claims_own() {
    let names: Vec<_> = ["pvc-1", "pvc-2", "PVC 1"].map(|n| lease_name(&n.parse().unwrap())).into();

    for name in &names {
        assert_eq!(name.len(), "berth-claim-".len() + 32);
        assert!(name.bytes().all(|b| b == b'-' || b.is_ascii_lowercase() || b.is_ascii_digit()));
    }
    assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
}

#[test]
fn a_lease_that_somebody_changed_is_named_rather_than_guessed_at() {
    for key in [CLAIM, VOLUME, VERSION, SPEC] {
        let mut lease = stored(&wish("pvc-1"));
        lease.metadata.annotations.as_mut().unwrap().remove(key);

        let foreign = Reservation::read(lease).unwrap_err().to_string();

        assert!(foreign.contains(key) && foreign.contains("berth-claim-"), "{foreign}");
    }
    let mut lease = stored(&wish("pvc-1"));
    lease.metadata.annotations.as_mut().unwrap().insert(CLAIM.into(), "pvc-2".into());
    assert!(Reservation::read(lease).is_err());
}
