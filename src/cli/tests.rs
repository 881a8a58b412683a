use clap::CommandFactory;

use super::options::driver_name;
use super::*;

fn parse(arguments: &[&str]) -> Result<Command, clap::Error> {
    Arguments::try_parse_from([&["berth"], arguments].concat()).map(|arguments| arguments.command)
}

fn config(file: &std::path::Path) -> Sources {
    Sources { config: Some(file.to_owned()), storage_class_map: None }
}

#[test]
fn the_arguments_hold_together() {
    Arguments::command().debug_assert();
}

#[test]
fn every_command_and_every_argument_has_a_help_text() {
    for command in Arguments::command().get_subcommands() {
        assert!(command.get_about().is_some(), "{} has none", command.get_name());
        for argument in command.get_arguments() {
            assert!(
                argument.get_help().is_some(),
                "{} {} has none",
                command.get_name(),
                argument.get_id()
            );
        }
    }
}

#[test]
fn the_server_needs_a_configuration_and_a_state_directory_and_guesses_the_rest() {
    let command = parse(&["standalone", "--config", "p.yaml", "--state", "s"]).unwrap();

    let Command::Standalone(options) = command else { panic!() };
    assert_eq!(options.common.endpoint.to_string(), ENDPOINT);
    assert_eq!((options.agent.wipes, options.agent.rescan.as_secs()), (2, 60));
    assert!(parse(&["standalone", "--config", "p.yaml"]).is_err());
}

#[test]
fn several_directories_may_be_named_for_mounts_and_each_is_absolute() {
    let with = |roots: &[&str]| {
        parse(&[&["standalone", "--config", "p.yaml", "--state", "s"], roots].concat())
    };

    let both = with(&["--mount-root", "/var/lib/kubelet", "--mount-root", "/run/nomad"]).unwrap();
    let Command::Standalone(options) = both else { panic!() };
    assert_eq!(options.mount_roots, [PathBuf::from("/var/lib/kubelet"), "/run/nomad".into()]);
    for wrong in ["kubelet", "/var/../etc", ""] {
        assert!(with(&["--mount-root", wrong]).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_wrong_value_is_refused_where_it_is_typed() {
    let wrong: [&[&str]; 9] = [
        &["standalone", "--config", "p", "--state", "s", "--endpoint", "tcp://x"],
        &["standalone", "--config", "p", "--state", "s", "--node", "Node_A"],
        &["standalone", "--config", "p", "--state", "s", "--driver-name", "9x"],
        &["standalone", "--config", "p", "--state", "s", "--wipes", "0"],
        &["standalone", "--config", "p", "--state", "s", "--rescan", "0"],
        &["standalone", "--config", "p", "--state", "s", "--http", "9808"],
        &["release", "node-a-fast-v1-0123456789abcdef"],
        &["clean", "../etc"],
        &["volumes", "-o", "xml"],
    ];
    for arguments in wrong {
        assert!(parse(arguments).is_err(), "{arguments:?} was taken");
    }
}

#[test]
fn a_release_names_the_tenancy() {
    let Command::Release(tenancy) =
        parse(&["release", "node-a-fast-v1-0123456789abcdef@7"]).unwrap()
    else {
        panic!()
    };

    assert_eq!(tenancy.id.tenancy.0, 7);
}

#[test]
fn the_example_configuration_is_explained_pool_by_pool() {
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/pools.yaml");

    let report = check::report(&config(&example)).unwrap();

    for line in [
        "pool fast-disks: mount points and plain directories, given as directories",
        "  one that is found holding data is Dirty until a person decides (`berth clean`)",
        "  after a tenancy everything in it is removed, and the result is read back",
        "pool raw: block devices, given as raw devices",
    ] {
        assert!(report.lines().any(|found| found == line), "{line}\n---\n{report}");
    }
    assert!(report.ends_with("3 pools, no problem\n"), "{report}");
}

#[test]
fn two_ways_to_wipe_are_explained_apart() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pools.yaml");
    let pools =
        "pools: {mixed: {path: /mnt, accept: [mount, device], cleanDevices: {method: zero}}}";
    std::fs::write(&file, pools).unwrap();

    let report = check::report(&config(&file)).unwrap();

    assert!(report.contains("\n  after a tenancy in a directory everything in it is removed, and the result is read back\n"));
    assert!(
        report.contains("\n  after a tenancy on a device every block is overwritten with zeros, and the result is read back\n")
    );
}

#[test]
fn pools_come_from_either_file_or_from_both_and_from_somewhere() {
    for (files, taken) in [
        (&["pools.yaml"][..], true),
        (&["--storage-class-map", "map.yaml"], true),
        (&["pools.yaml", "--storage-class-map", "map.yaml"], true),
        (&[], false),
    ] {
        assert_eq!(parse(&[&["check-config"], files].concat()).is_ok(), taken, "{files:?}");
    }
    assert!(parse(&["standalone", "--state", "s", "--storage-class-map", "m"]).is_ok());
    assert!(parse(&["standalone", "--state", "s"]).is_err());
}

#[test]
fn the_provisioners_classes_are_explained_key_by_key_and_then_as_pools() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("map.yaml");
    std::fs::write(&file, "fast: {hostDir: /mnt/fast, selector: []}\n").unwrap();

    let report = check::report(&Sources { config: None, storage_class_map: Some(file) }).unwrap();

    assert!(report.contains("fast.hostDir: path: /mnt/fast\n"), "{report}");
    assert!(report.contains("fast.selector: WARNING: "), "{report}");
    assert!(report.contains("\npool fast: mount points and block devices, given as"), "{report}");
    assert!(report.ends_with("1 pool, no problem, 1 warning\n"), "{report}");
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_drivers_name_that_csi_sanity_takes_or_is_refused(text in "(\\PC{0,70}|[a-zA-Z0-9._-]{0,70})") {
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphabetic());
        let right = (1..=63).contains(&text.chars().count())
            && text.chars().all(legal)
            && ends(text.chars().next())
            && ends(text.chars().next_back());

        proptest::prop_assert_eq!(driver_name(&text).ok(), right.then(|| text.clone()));
    }

    #[test]
    fn any_text_is_from_one_second_to_a_day_or_is_refused(text in "(\\PC{0,9}|[+-]?[0-9]{0,22})", number in 0_u64..100_000) {
        if let Ok(taken) = seconds(&text) {
            proptest::prop_assert!((1..=86_400).contains(&taken.as_secs()));
        }
        let expected = (1..=86_400).contains(&number).then(|| Duration::from_secs(number));
        proptest::prop_assert_eq!(seconds(&number.to_string()).ok(), expected);
    }
}
