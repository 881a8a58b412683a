use proptest::prelude::*;

use super::*;
use crate::volume::Published;
use AccessMode::{
    SingleNodeMultiWriter, SingleNodeReaderOnly, SingleNodeSingleWriter, SingleNodeWriter,
};

fn wanted(access: AccessMode) -> Wanted<'static> {
    Wanted {
        shape: Shape::Directory,
        access,
        read_only: false,
        fs_type: None,
        flags: &[],
        attributes: Attributes::default(),
        inherited: Attributes::default(),
    }
}

fn at(path: &str, wanted: Wanted<'_>) -> Place {
    let published = Published {
        path: path.into(),
        staging: false,
        read_only: wanted.read_only,
        access: wanted.access,
        flags: Some(wanted.flags.to_vec()),
    };
    Place { published, shown: None }
}

fn own(attributes: Attributes) -> There {
    There::Own { attributes, fs_type: Some("ext4".into()) }
}

/// The table of `NodePublishVolume` in the CSI specification, row by row: same target and arguments, same target and
/// other arguments, another target with the same and with other arguments.
#[test]
fn a_second_publish_is_answered_as_the_specification_has_it() {
    for (access, another) in [
        (SingleNodeMultiWriter, true),
        (SingleNodeSingleWriter, false),
        (SingleNodeWriter, false),
        (SingleNodeReaderOnly, false),
    ] {
        let first = wanted(access);
        let changed = Wanted { read_only: true, ..first };
        let known = at("/t1", first);
        let own = own(Attributes::default());
        let elsewhere = || {
            if another {
                Ok(Plan::Steps(&[Step::MakeDirectory, Step::Attach]))
            } else {
                Err(Refusal::Elsewhere("/t1".into()))
            }
        };

        assert_eq!(publish(first, &own, Some(&known), &[]), Ok(Plan::AlreadyDone));
        assert_eq!(publish(changed, &own, Some(&known), &[]), Err(Refusal::Incompatible));
        let others = std::slice::from_ref(&known);
        assert_eq!(publish(first, &There::Nothing, None, others), elsewhere(), "{access:?}");
        assert_eq!(publish(changed, &There::Nothing, None, others), elsewhere(), "{access:?}");
    }
}

#[test]
fn one_writer_and_many_do_not_mix() {
    let known = [at("/t1", wanted(SingleNodeSingleWriter))];

    let plan = publish(wanted(SingleNodeMultiWriter), &There::Nothing, None, &known);

    assert_eq!(plan, Err(Refusal::Elsewhere("/t1".into())));
}

#[test]
fn a_mount_that_lacks_a_restriction_is_not_what_was_asked_for() {
    let no_exec = Attributes::default().with(Attribute::NoExec);
    let asked = Wanted { attributes: no_exec, ..wanted(SingleNodeWriter) };
    let there = own;

    assert_eq!(
        publish(asked, &there(Attributes::default()), None, &[]),
        Err(Refusal::Incompatible)
    );
    let stricter = no_exec.with(Attribute::NoDev);
    assert_eq!(publish(asked, &there(stricter), None, &[]), Ok(Plan::AlreadyDone));
}

#[test]
fn a_read_only_mount_is_not_what_a_writer_asked_for_unless_its_source_is_read_only() {
    let read_only = Attributes::default().with(Attribute::ReadOnly);
    let there = own(read_only);
    let asked = wanted(SingleNodeWriter);

    assert_eq!(publish(asked, &there, None, &[]), Err(Refusal::Incompatible));
    let inherited = Wanted { inherited: read_only, ..asked };
    assert_eq!(publish(inherited, &there, None, &[]), Ok(Plan::AlreadyDone));
}

#[test]
fn another_type_or_other_flags_are_not_what_is_there() {
    let discard = ["discard".to_owned()];
    let asked = wanted(SingleNodeWriter);
    let (there, known) = (own(Attributes::default()), at("/t1", asked));
    let plan = |wanted| publish(wanted, &there, Some(&known), &[]);

    assert_eq!(plan(Wanted { fs_type: Some("ext4"), ..asked }), Ok(Plan::AlreadyDone));
    assert_eq!(plan(Wanted { fs_type: Some("xfs"), ..asked }), Err(Refusal::Incompatible));
    assert_eq!(plan(Wanted { flags: &discard, ..asked }), Err(Refusal::Incompatible));
    let unknown =
        Place { published: Published { flags: None, ..known.published.clone() }, ..known.clone() };
    let found = publish(Wanted { flags: &discard, ..asked }, &there, Some(&unknown), &[]);
    assert_eq!(found, Ok(Plan::AlreadyDone));
}

#[test]
fn a_directory_and_a_device_are_staged_by_a_record_and_a_directory_that_stands_for_them() {
    let noexec = ["noexec".to_owned()];
    for shape in [Shape::Directory, Shape::File] {
        let asked = Wanted { shape, ..wanted(SingleNodeWriter) };
        let known = at("/s", asked);
        // A mount of the volume is what an earlier version made.
        for there in [There::Bare(Shape::Directory), own(Attributes::default())] {
            let plan = |asked, here, other| stage(asked, false, &there, here, other);

            assert_eq!(plan(asked, None, None), Ok(Plan::Steps(&[])));
            assert_eq!(plan(asked, Some(&known), None), Ok(Plan::AlreadyDone));
            for other in [
                Wanted { access: SingleNodeMultiWriter, ..asked },
                Wanted { flags: &noexec, ..asked },
            ] {
                assert_eq!(plan(other, Some(&known), None), Err(Refusal::Incompatible));
            }
            assert_eq!(plan(asked, None, Some(&known)), Err(Refusal::Elsewhere("/s".into())));
        }
        for recorded in [None, Some(&known)] {
            let plan = stage(asked, false, &There::Nothing, recorded, None);
            assert_eq!(plan, Ok(Plan::Steps(&[Step::MakeDirectory])));
        }
    }
}

#[test]
fn nothing_but_a_directory_stands_for_a_volume_though_it_is_recorded() {
    let asked = wanted(SingleNodeWriter);
    let known = at("/s", asked);

    for there in [There::Foreign(Found::Owned), There::Bare(Shape::File)] {
        for recorded in [None, Some(&known)] {
            let plan = stage(asked, false, &there, recorded, None);
            assert!(matches!(plan, Err(Refusal::Occupied(_))), "{there:?}: {plan:?}");
        }
    }
}

#[test]
fn a_file_system_is_staged_by_its_mount() {
    let asked = wanted(SingleNodeWriter);
    let known = at("/s", asked);
    let plan = |there: &There, here, other| stage(asked, true, there, here, other);

    let bare = There::Bare(Shape::Directory);
    assert_eq!(plan(&bare, Some(&known), None), Ok(Plan::Steps(&[Step::Attach])));
    assert_eq!(plan(&own(Attributes::default()), Some(&known), None), Ok(Plan::AlreadyDone));
    assert_eq!(plan(&bare, None, Some(&known)), Err(Refusal::Elsewhere("/s".into())));
}

fn there() -> impl Strategy<Value = There> {
    let attributes = prop_oneof![
        Just(Attributes::default()),
        Just(Attributes::default().with(Attribute::ReadOnly)),
        Just(Attributes::default().with(Attribute::NoExec)),
    ];
    prop_oneof![
        Just(There::Nothing),
        Just(There::Bare(Shape::Directory)),
        Just(There::Bare(Shape::File)),
        attributes.prop_map(own),
        Just(There::Foreign(Found::Owned)),
    ]
}

proptest! {
    #[test]
    fn nothing_is_ever_mounted_upon_a_mount(there in there(), read_only: bool, file: bool) {
        let shape = if file { Shape::File } else { Shape::Directory };
        let asked = Wanted { shape, read_only, ..wanted(SingleNodeMultiWriter) };

        if let Ok(Plan::Steps(steps)) = publish(asked, &there, None, &[]) {
            let mounted = matches!(there, There::Own { .. } | There::Foreign(_));
            prop_assert!(!mounted);
            prop_assert_eq!(steps.last(), Some(&Step::Attach));
            let makes = steps.len() > 1;
            prop_assert_eq!(makes, there == There::Nothing);
        }
    }
}

const MADE: [&str; 2] = ["ext4", "xfs"];

fn decide(
    recorded: Option<(u64, &str, bool)>,
    contents: &Contents,
    asked: Option<&str>,
    accepts_data: bool,
) -> Result<Prepare, Unprepared> {
    let recorded = recorded.map(|(tenancy, fs_type, done)| Format {
        tenancy: Tenancy(tenancy),
        fs_type: fs_type.into(),
        done,
    });
    let rule = PoolRule { fs_type: "ext4", made: &MADE, accepts_data };
    prepare(recorded.as_ref(), Tenancy(7), contents, asked, rule)
}

#[test]
fn a_blank_device_gets_the_type_that_is_asked_for_or_its_pools() {
    let blank = Contents::Blank;

    assert_eq!(decide(None, &blank, None, false), Ok(Prepare::Format("ext4".into())));
    assert_eq!(decide(None, &blank, Some("xfs"), false), Ok(Prepare::Format("xfs".into())));
    assert_eq!(decide(None, &blank, Some("vfat"), false), Err(Unprepared::Type(None)));
}

#[test]
fn the_record_of_another_tenancy_says_nothing() {
    let had = Contents::Known("ext4".into());

    let begun = decide(Some((6, "ext4", false)), &had, None, false);
    assert_eq!(begun, Ok(Prepare::MountEmpty("ext4".into())));
    let done = decide(Some((6, "ext4", true)), &had, None, false);
    assert_eq!(done, Ok(Prepare::MountEmpty("ext4".into())));
}

#[test]
fn what_was_begun_is_made_anew_only_where_nothing_else_can_have_come_since() {
    let begun = |contents: Contents| decide(Some((7, "ext4", false)), &contents, None, false);
    let known = |name: &str| Contents::Known(name.into());
    let not_blank = |found: &str| Err(Unprepared::NotBlank(found.into()));

    assert_eq!(begun(Contents::Blank), Ok(Prepare::Format("ext4".into())));
    assert_eq!(begun(Contents::Data("data".into())), Ok(Prepare::Format("ext4".into())));
    assert_eq!(begun(known("ext4")), Ok(Prepare::Resume("ext4".into())));
    assert_eq!(begun(known("xfs")), Ok(Prepare::MountEmpty("xfs".into())));
    assert_eq!(begun(known("btrfs")), not_blank("btrfs"));
    assert_eq!(begun(Contents::Other("crypto_LUKS".into())), not_blank("crypto_LUKS"));
}

fn contents() -> impl Strategy<Value = Contents> {
    let known = prop::sample::select(vec!["ext4", "xfs", "btrfs", "crypto_LUKS"]);
    prop_oneof![
        Just(Contents::Blank),
        Just(Contents::Data("data at byte 7".into())),
        Just(Contents::Other("gpt at byte 512".into())),
        known.prop_map(|name| Contents::Known(name.into())),
    ]
}

proptest! {
    #[test]
    fn a_device_is_formatted_only_if_it_is_blank_or_holds_what_was_begun_for_this_tenancy(
        recorded in prop::option::of((6_u64..8, prop::sample::select(&MADE[..]), any::<bool>())),
        contents in contents(),
        asked in prop::option::of(prop::sample::select(vec!["ext4", "xfs", "btrfs"])),
        accepts_data: bool,
    ) {
        let decision = decide(recorded, &contents, asked, accepts_data);

        let mine = recorded.filter(|(tenancy, ..)| *tenancy == 7);
        let begun = mine.filter(|(_, _, done)| !done).map(|(_, fs_type, _)| fs_type.to_owned());
        match &decision {
            Ok(Prepare::Format(_)) => {
                let rest = begun.is_some() && matches!(contents, Contents::Data(_));
                prop_assert!(rest || mine.is_none_or(|(.., done)| !done) && contents == Contents::Blank);
            }
            Ok(Prepare::Resume(_)) => prop_assert_eq!(Some(contents), begun.map(Contents::Known)),
            Ok(Prepare::Mount(_)) => {
                prop_assert!(accepts_data || mine.is_some_and(|(.., done)| done));
            }
            _ => {}
        }
        if let (Ok(Prepare::Mount(has) | Prepare::MountEmpty(has) | Prepare::Resume(has)), Some(asked)) =
            (&decision, asked)
        {
            prop_assert_eq!(has.as_str(), asked);
        }
    }
}
