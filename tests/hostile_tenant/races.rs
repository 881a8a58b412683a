//! The cleaner raced by attackers, and the calls of the orchestrator while they are at it.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use berth::volume::{CleanReason, Phase};

use crate::attack::{self, ALL, Attack, Attacker, PLAIN};
use crate::support::requests;
use crate::world::{World, can_make, race_time};

/// Ends the attack also where a check fails, so that its threads can be waited for.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs attackers of the volume while `meanwhile` runs; gives how many steps they took.
fn attacked(world: &World, attackers: &[Attacker], meanwhile: impl FnOnce(&AtomicU64)) -> u64 {
    let (over, steps) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for attacker in attackers {
            let attack =
                Attack { volume: &world.source, decoy: &world.decoy, over: &over, steps: &steps };
            scope.spawn(move || attack.run(*attacker));
        }
        let _over = Over(&over);
        meanwhile(&steps);
    });
    attack::undo(&world.source);
    steps.load(Ordering::Relaxed)
}

/// Waits until attackers have taken so many steps.
fn until(steps: &AtomicU64, wanted: u64) {
    while steps.load(Ordering::Relaxed) < wanted {
        std::thread::yield_now();
    }
}

/// How many wipes have to end while they are raced, however long that takes.
const ENDS: u32 = 3;

/// The cleaner raced for a while, tried again as soon as it gives up. It may win.
fn race(world: &World, attackers: &[Attacker]) {
    let mut ends = 0;
    let steps = attacked(world, attackers, |steps| {
        until(steps, 200);
        world.release();
        let begun = Instant::now();
        while begun.elapsed() < race_time() || ends < ENDS {
            let volume = world.volume();
            if volume.is_claimable() {
                break;
            }
            let clean = volume.status.conditions.clean;
            let ended = matches!(
                clean.reason,
                CleanReason::WipeFailed | CleanReason::StillInUse | CleanReason::VerifyFailed
            );
            if ended {
                assert!(!clean.message.is_empty());
                ends += 1;
                world.clean_again();
            }
        }
    });
    eprintln!("{steps} steps of {} attackers, {ends} wipes that ended in vain", attackers.len());
    // The attack is over: there is something left to wipe, or it was clean between two steps.
    world.clean_again();
    world.require_clean();
}

#[test]
fn nothing_outside_changes_by_a_byte_while_a_volume_is_attacked_that_is_wiped() {
    for fs_type in ["tmpfs", "ext4", "xfs", "btrfs", "overlay"] {
        if can_make(fs_type) {
            eprintln!("{fs_type}:");
            race(&World::of_directories(fs_type, "{method: delete}"), &ALL);
        }
    }
}

#[test]
fn nothing_outside_changes_by_a_byte_while_a_whole_file_system_is_attacked_that_is_wiped() {
    for (fs_type, clean) in [("ext4", "delete"), ("ext4", "reformat"), ("xfs", "reformat")] {
        eprintln!("{fs_type} {clean}:");
        race(&World::of_mounts(fs_type, &format!("{{method: {clean}}}")), &PLAIN);
    }
}

#[test]
fn a_program_that_wipes_is_believed_only_where_nothing_is_left() {
    let program = "find $BERTH_PATH -xdev -mindepth 1 -delete || true";
    let clean = format!("{{method: command, command: [/bin/sh, -c, '{program}'], timeout: 1m}}");
    race(&World::of_directories("ext4", &clean), &PLAIN);
}

#[test]
fn calls_of_the_orchestrator_follow_nothing_that_a_tenant_makes_meanwhile() {
    let world = World::of_directories("tmpfs", "{method: delete}");
    let mut calls = 0;

    let steps = attacked(&world, &PLAIN, |steps| {
        until(steps, 100);
        let begun = Instant::now();
        while begun.elapsed() < race_time() {
            assert!(world.stats(), "its statistics are given");
            let request = berth::csi::proto::csi_v1::NodeExpandVolumeRequest {
                volume_id: world.id.clone(),
                volume_path: requests::text(&world.target),
                ..Default::default()
            };
            world.berth.node(async |client| client.node_expand_volume(request).await).unwrap();
            world.berth.unpublish(&world.host, &world.id).unwrap();
            world.berth.publish(&world.host, &world.id).unwrap();
            calls += 1;
        }
    });

    eprintln!("{steps} steps, {calls} rounds of calls");
    world.require_nothing_else_touched();
    assert_eq!(world.volume().phase(), Phase::Claimed);
    world.release();
    world.require_clean();
}

#[test]
fn a_directory_that_is_filled_as_fast_as_it_is_emptied_is_given_up_with_the_reason() {
    for fs_type in ["tmpfs", "ext4", "xfs", "btrfs"] {
        if !can_make(fs_type) {
            continue;
        }
        let world = World::of_directories(fs_type, "{method: delete}");
        attacked(&world, &[attack::fill, attack::fill], |steps| {
            until(steps, 1000);
            world.release();
            world.wait_said(CleanReason::WipeFailed, "however often it is emptied");
        });
        world.require_clean();
    }
}

/// What is listed and moved out of the volume before it is removed is nobody's of this volume any more, and less so what
/// is put there afterwards.
#[test]
fn a_directory_that_is_moved_out_of_the_volume_is_left_alone_and_one_that_is_moved_in_goes() {
    let world = World::of_directories("ext4", "{method: delete}");
    let (over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let kept = std::thread::scope(|scope| {
        let mover = scope.spawn(|| move_out_and_in(&world, &over, &count));
        let attack = Over(&over);
        until(&count, 3);
        world.release();
        let begun = Instant::now();
        while begun.elapsed() < race_time() {
            world.clean_again();
        }
        drop(attack);
        mover.join().unwrap()
    });

    assert!(!kept.is_empty(), "nothing was moved out in time");
    for (number, path) in kept.iter().enumerate() {
        assert_eq!(fs::read_to_string(path).unwrap(), number.to_string(), "{}", path.display());
    }
    eprintln!("{} directories were moved out in time", kept.len());
    world.clean_again();
    world.require_clean();
}

/// Makes large directories in the volume, moves each out, and puts something in it; gives all of that.
fn move_out_and_in(world: &World, over: &AtomicBool, moves: &AtomicU64) -> Vec<std::path::PathBuf> {
    let mut kept = Vec::new();
    for number in 0.. {
        if over.load(Ordering::Relaxed) {
            return kept;
        }
        let name = number.to_string();
        let (inside, outside) = (world.source.join(&name), world.aside.join(&name));
        for file in 0..200 {
            let _ = fs::create_dir_all(inside.join("a/b"));
            let _ = fs::write(inside.join("a/b").join(file.to_string()), "a tenant's");
        }
        if fs::rename(&inside, &outside).is_ok() {
            // It may have been emptied by then, and what was being emptied may go until there is something in it; from now
            // on it is outside.
            let put = outside.join("a/b/kept");
            let _ = fs::create_dir_all(outside.join("a/b"));
            if fs::write(&put, kept.len().to_string()).is_ok() {
                kept.push(put);
            }
        }
        let inward = world.aside.join("inward");
        let _ = fs::create_dir_all(inward.join("x"));
        let _ = fs::rename(&inward, world.source.join(format!("in-{number}")));
        moves.fetch_add(1, Ordering::Relaxed);
    }
    kept
}
