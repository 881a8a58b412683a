use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

use super::*;

#[test]
fn a_volume_that_is_published_is_neither_released_nor_wiped() {
    let (host, berth, source) = one_volume();
    let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
    let target = berth.publish(&host, &id).unwrap();
    fs::write(target.join("data"), "a tenant's").unwrap();

    let refused = berth.delete(&id).unwrap_err();

    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(source.join("data").exists());
    berth.unpublish(&host, &id).unwrap();
    berth.delete(&id).unwrap();
    berth.wait_phase("v1", Phase::Available);
}

#[test]
fn a_mount_that_the_driver_did_not_make_keeps_a_volume_from_being_wiped() {
    let (host, berth, source) = one_volume();
    let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
    fs::write(source.join("data"), "a tenant's").unwrap();
    let elsewhere = host.path("outside");
    support::mount(&["--bind", source.to_str().unwrap()], &elsewhere);

    berth.delete(&id).unwrap();
    let said = berth.wait_for("the wipe to wait", |berth| {
        let volume = berth.volume("v1")?;
        let message = volume.status.conditions.clean.message;
        message.contains("still in use").then_some(message)
    });
    assert!(said.contains(elsewhere.to_str().unwrap()), "{said}");
    assert!(source.join("data").exists());

    support::unmount(&elsewhere);
    berth.wait_phase("v1", Phase::Available);
}

#[test]
fn a_device_that_somebody_holds_for_himself_is_not_wiped_until_he_lets_it_go() {
    let mut host = Host::new();
    let device = host.block("raw", "d1", 4 * MIB);
    let config = format!(
        "pools: {{raw: {{path: {}, mode: Block, clean: {{method: zero}}}}}}",
        host.pool("raw").display()
    );
    let berth = Berth::start(&host, &config);
    berth.wait_phase("d1", Phase::Available);
    let mut create = requests::create("pvc-1", "raw", 1);
    create.volume_capabilities = vec![requests::raw()];
    let created = berth.controller(async |client| client.create_volume(create).await).unwrap();
    let id = created.volume.unwrap().volume_id;
    File::options().write(true).open(&device).unwrap().write_all(&[0xA5; 4096]).unwrap();
    let first_block = || {
        let mut block = [0; 4096];
        File::open(&device).unwrap().read_exact(&mut block).unwrap();
        block
    };
    let exclusive = i32::try_from(OFlags::EXCL.bits()).unwrap();
    let held = File::options().read(true).custom_flags(exclusive).open(&device).unwrap();

    berth.delete(&id).unwrap();
    berth.wait_for("the wipe to wait", |berth| {
        let message = berth.volume("d1")?.status.conditions.clean.message;
        (message.contains("still in use") && message.contains("whoever holds")).then_some(())
    });
    assert_eq!(first_block(), [0xA5; 4096]);

    drop(held);
    berth.wait_phase("d1", Phase::Available);
    assert_eq!(first_block(), [0; 4096]);
}
