use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

use super::*;

#[test]
fn a_volume_that_is_given_back_while_it_is_published_is_wiped_when_it_no_longer_is() {
    let (host, berth, source) = one_volume();
    let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
    let target = berth.publish(&host, &id).unwrap();
    fs::write(target.join("data"), "a tenant's").unwrap();

    berth.delete(&id).unwrap();

    berth.wait_for("the wipe to wait", |berth| {
        let message = berth.volume("v1")?.status.conditions.clean.message;
        message.contains(target.to_str().unwrap()).then_some(())
    });
    assert_eq!(fs::read_to_string(target.join("data")).unwrap(), "a tenant's");
    let next = berth.create("pvc-2", "fast", 1).unwrap_err();
    assert_eq!(next.code(), Code::ResourceExhausted);
    let again = berth.publish(&host, &id).unwrap_err();
    assert_eq!(again.code(), Code::NotFound);
    // As often as the orchestrator likes.
    berth.delete(&id).unwrap();

    berth.unpublish(&host, &id).unwrap();
    berth.wait_phase("v1", Phase::Available);
    assert!(!source.join("data").exists());
}

#[test]
fn a_volume_that_was_given_back_while_it_was_published_is_known_to_be_so_by_the_next_start() {
    let (host, berth, source) = one_volume();
    let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
    let target = berth.publish(&host, &id).unwrap();
    fs::write(target.join("data"), "a tenant's").unwrap();
    berth.delete(&id).unwrap();

    berth.kill();
    let berth = Berth::start(&host, &plain(&host));
    let cleaning = berth.wait_phase("v1", Phase::Cleaning);

    assert!(!cleaning.status.published.is_empty());
    assert_eq!(fs::read_to_string(target.join("data")).unwrap(), "a tenant's");
    berth.unpublish(&host, &id).unwrap();
    berth.wait_phase("v1", Phase::Available);
    assert!(!source.join("data").exists());
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
        (message.contains("still in use") && message.contains("which has it open")).then_some(())
    });
    assert_eq!(first_block(), [0xA5; 4096]);

    drop(held);
    berth.wait_phase("d1", Phase::Available);
    assert_eq!(first_block(), [0; 4096]);
}
