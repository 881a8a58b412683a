//! Devices that do not discard, that say they do and do not, and what becomes of a volume whose wipe is disproved.

use std::os::unix::fs::FileExt;

use super::believable::{linked, pattern, remembered, tenants};
use super::world::{World, in_world};
use crate::host::fuse::{Discards, PlayedDisk};
use crate::host::mount::fixture::whole;
use crate::inventory::Inventory;
use crate::volume::{
    CleanMethod, CleanReason, LocalVolume, Mode, Phase, Verified, VolumeName, WipeResult,
};

const SIZE: usize = (8 << 20) + 3 * 512;

/// A disk full of a tenant's data, and its volume.
async fn full(world: &World, discards: Discards, method: CleanMethod) -> (PlayedDisk, VolumeName) {
    let disk = PlayedDisk::new(SIZE, discards);
    let device = std::fs::File::options().write(true).open(disk.path()).unwrap();
    device.write_all_at(&pattern(SIZE), 0).unwrap();
    device.sync_all().unwrap();
    drop(device);
    assert_eq!(disk.medium().bytes, pattern(SIZE));
    disk.medium().written.fill([0; 2]);
    let path = linked(world, disk.path());
    let name = world.released(&path, Mode::Block, method).await;
    (disk, name)
}

/// Makes sure that the disk was asked to discard, and that all of it was written full of zeros instead.
fn require_written(disk: &PlayedDisk) {
    let medium = disk.medium();
    assert!(medium.asked > 0, "it was never asked to discard");
    assert!(medium.bytes.iter().all(|byte| *byte == 0));
    assert!(medium.written.iter().all(|[_, zeros]| *zeros > 0), "not all was written");
}

#[test]
fn a_device_that_does_not_discard_is_written_full_of_zeros() {
    for method in [CleanMethod::Discard, CleanMethod::Zero] {
        in_world(async |world| {
            let (disk, name) = full(world, Discards::Refused, method).await;

            world.cleaned(&name).await;

            assert!(whole(disk.path()).iter().all(|byte| *byte == 0));
            require_written(&disk);
            let wipe = remembered(world, &name).await.wipe;
            assert_eq!((wipe.result, wipe.verified), (WipeResult::Wiped, Verified::Samples));
        });
    }
}

#[test]
fn shredding_writes_noise_over_every_block_as_often_as_it_says_and_then_zeros() {
    in_world(async |world| {
        let method = CleanMethod::Shred { passes: 3 };
        let (disk, name) = full(world, Discards::Refused, method).await;

        world.cleaned(&name).await;

        let medium = disk.medium();
        // A block may have been written in parts.
        assert!(medium.written.iter().all(|[noise, _]| *noise >= 3));
        assert!(medium.written.iter().all(|[_, zeros]| *zeros > 0));
        assert!(medium.bytes.iter().all(|byte| *byte == 0));
    });
}

#[test]
fn on_a_device_whose_discards_are_a_lie_nothing_of_a_shredded_tenant_is_left_all_the_same() {
    in_world(async |world| {
        let method = CleanMethod::Shred { passes: 1 };
        let (disk, name) = full(world, Discards::AreALie, method).await;

        // It does not read as zeros, which is what was promised.
        world.refused(&name, CleanReason::VerifyFailed).await;

        let medium = disk.medium();
        assert_eq!(tenants(&medium.bytes), None);
        assert!(medium.written.iter().all(|[noise, _]| *noise > 0));
    });
}

#[test]
fn a_device_whose_discards_are_a_lie_is_found_out_and_given_to_nobody() {
    for (method, discards) in [
        (CleanMethod::Discard, Discards::AreALie),
        (CleanMethod::Zero, Discards::AreALie),
        // Two thirds of it are what they should be.
        (CleanMethod::Discard, Discards::EndAt(SIZE / 3 * 2)),
        // All but a little at the end. (Of a page in parts the kernel keeps zeros in memory, beneath the device.)
        (CleanMethod::Discard, Discards::EndAt(SIZE - 3 * 4096)),
    ] {
        in_world(async |world| {
            let (_disk, name) = full(world, discards, method).await;

            let said = world.refused(&name, CleanReason::VerifyFailed).await;

            assert!(said.contains("was read back"), "{said}");
            let volume = world.volume(&name).await;
            assert_eq!((volume.is_claimable(), volume.phase()), (false, Phase::Dirty));
            let wipe = remembered(world, &name).await.wipe;
            assert_eq!((wipe.result, wipe.times), (WipeResult::VerifyFailed, 1));
        });
    }
}

#[test]
fn a_wipe_that_was_disproved_is_not_tried_again_by_any_agent_until_a_person_asks_for_it() {
    in_world(async |world| {
        let (disk, name) = full(world, Discards::AreALie, CleanMethod::Discard).await;
        world.refused(&name, CleanReason::VerifyFailed).await;
        let asked = disk.medium().asked;

        // Another agent starts, and ends another volume's wipe: it has had its turn for this one too.
        let (cancel, running) = world.clean();
        let other = world.base.join("other");
        std::fs::create_dir(&other).unwrap();
        let other = world.released(&other, Mode::Filesystem, CleanMethod::Delete).await;
        world.until(&other, LocalVolume::is_claimable).await;
        assert_eq!(disk.medium().asked, asked);
        assert_eq!(world.volume(&name).await.status.last_wipe.unwrap().times, 1);

        // The firmware is mended.
        disk.medium().discards = Discards::EndAt(SIZE);
        let now = jiff::Timestamp::now();
        let ask = |volume: &LocalVolume| {
            let policy = volume.spec.clean.clone().unwrap();
            Ok::<_, crate::inventory::Error>(volume.asked_to_clean(policy, now))
        };
        world.inventory.modify_spec(&name, ask).await.unwrap();
        world.until(&name, LocalVolume::is_claimable).await;
        cancel.cancel();
        running.await.unwrap();

        assert!(whole(disk.path()).iter().all(|byte| *byte == 0));
        let of = world.inventory.wipes().await.unwrap();
        let of: Vec<_> = of.iter().filter(|wipe| wipe.volume == name).collect();
        let results: Vec<_> = of.iter().map(|wipe| wipe.wipe.result).collect();
        assert_eq!(results, [WipeResult::VerifyFailed, WipeResult::Wiped]);
    });
}
