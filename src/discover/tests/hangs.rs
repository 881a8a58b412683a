use std::fs;

use super::world::*;
use crate::host::hanging::Hanging;
use crate::host::mount::fixture::tmpfs;
use crate::volume::Phase;

#[test]
fn a_file_system_that_hangs_under_any_number_of_entries_concerns_no_other_volume() {
    in_world(async |world| {
        world.be_impatient();
        world.rescan_often();
        tmpfs(&world.path("fast/held"));
        fs::create_dir(world.path("fast/free")).unwrap();
        world.start().await;
        world.claim("fast/held").await;

        let hanging = Hanging::mount(&world.path("hanging"));
        for number in 0..200 {
            let entry = world.path(&format!("slow/v{number}"));
            fs::create_dir_all(&entry).unwrap();
            Hanging::bind(&world.path("hanging"), &entry);
        }
        world.configure("slow", |_| ());
        world.wait_problems(200).await;
        fs::create_dir(world.path("fast/new")).unwrap();

        world.wait_phase("fast/new", Phase::Available).await;
        assert_eq!(world.volume("fast/held").await.phase(), Phase::Claimed);
        assert_eq!(world.volume("fast/free").await.phase(), Phase::Available);
        assert!(world.discovery.problems().borrow().iter().all(|problem| {
            let said = problem.to_string();
            said.contains("no answer") && !said.contains("not tried")
        }));
        drop(hanging);
    });
}

#[test]
fn a_pool_whose_directory_hangs_keeps_no_other_from_being_watched() {
    in_world(async |world| {
        world.be_impatient();
        let hanging = Hanging::mount(&world.path("hanging"));
        for pool in ["a", "b"] {
            let path = world.path("hanging").join(pool);
            world.configure(pool, |configured| configured.path = path);
        }
        world.start().await;
        world.wait_problems(2).await;

        for entry in ["fast/v1", "fast/v2"] {
            fs::create_dir(world.path(entry)).unwrap();
            world.wait_phase(entry, Phase::Available).await;
        }
        world.configure("slow", |_| ());
        world.wait_problem("slow does not exist").await;
        for entry in ["slow", "slow/v1"] {
            fs::create_dir(world.path(entry)).unwrap();
        }

        world.wait_phase("slow/v1", Phase::Available).await;
        drop(hanging);
    });
}
