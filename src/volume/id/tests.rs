use proptest::prelude::*;

use super::*;

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

#[test]
fn a_volume_name_shows_node_pool_and_entry_and_ends_in_a_64_bit_hash() {
    let name = VolumeName::compose(&node("node-b"), &"fast-disks".parse().unwrap(), "v1", b"disk");

    let (readable, hash) = name.as_str().rsplit_once('-').unwrap();
    assert_eq!(readable, "node-b-fast-disks-v1");
    assert_eq!(hash.len(), 16);
}

#[test]
fn another_disk_at_the_same_path_is_another_volume() {
    let pool = "p".parse().unwrap();

    let one = VolumeName::compose(&node("n"), &pool, "v1", b"disk 1");
    let other = VolumeName::compose(&node("n"), &pool, "v1", b"disk 2");

    assert_ne!(one, other);
}

#[test]
fn the_same_disk_on_another_node_is_another_volume() {
    let pool = "p".parse().unwrap();

    assert_ne!(
        VolumeName::compose(&node("a"), &pool, "v1", b"disk"),
        VolumeName::compose(&node("b"), &pool, "v1", b"disk")
    );
}

#[test]
fn a_volume_id_has_one_spelling() {
    for wrong in [
        "", "v", "@1", "v@", "v@0", "v@01", "v@+1", "v@-1", "v@1 ", "../v@1", "/v@1", "V@1",
        "v/x@1", "v\0@1", "a@b@1",
    ] {
        assert!(wrong.parse::<VolumeId>().is_err(), "{wrong:?} was taken");
    }
}

#[test]
fn an_over_long_claim_name_is_refused_and_128_bytes_are_not() {
    assert!("n".repeat(128).parse::<ClaimName>().is_ok());
    assert!("n".repeat(129).parse::<ClaimName>().is_err());
}

#[test]
fn a_node_name_of_63_bytes_is_its_own_topology_value() {
    let name = format!("{}.a", "n".repeat(61));

    assert_eq!(node(&name).topology_value(), name);
}

#[test]
fn long_node_names_that_begin_alike_have_topology_values_of_their_own() {
    let one = node(&format!("{}-1", "n".repeat(70))).topology_value();
    let other = node(&format!("{}-2", "n".repeat(70))).topology_value();

    assert_eq!(one.len(), 63);
    assert!(one.starts_with(&"n".repeat(46)));
    assert_ne!(one, other);
}

/// What Kubernetes takes as a label's value.
fn is_label_value(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && edge(text.chars().next())
        && edge(text.chars().last())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

proptest! {
    #[test]
    fn every_topology_value_is_a_legal_label_value(
        name in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?){0,3}"
    ) {
        prop_assume!(name.len() <= 253);
        prop_assert!(is_label_value(&node(&name).topology_value()));
    }

    #[test]
    fn every_composed_name_is_a_legal_name_and_its_id_fits_128_bytes(
        node in "[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?(\\.[a-z0-9]{1,60}){0,3}",
        pool in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
        entry in "\\PC{0,255}",
        identity in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let name = VolumeName::compose(&node.parse().unwrap(), &pool.parse().unwrap(), &entry, &identity);

        prop_assert_eq!(&name.as_str().parse::<VolumeName>().unwrap(), &name);
        let id = VolumeId { volume: name, tenancy: Tenancy(u64::MAX) };
        prop_assert!(id.to_string().len() <= 128);
        prop_assert_eq!(id.to_string().parse::<VolumeId>().unwrap(), id);
    }

    #[test]
    fn parsing_an_id_never_panics_and_what_it_takes_it_gives_back(text in "\\PC{0,200}") {
        if let Ok(id) = text.parse::<VolumeId>() {
            prop_assert_eq!(id.to_string(), text);
        }
    }
}
