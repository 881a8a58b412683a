//! Every error of the crate with the code that the specification's tables, or their readers, want for it.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use super::*;
use crate::host::{DeviceNumber, Errno};
use crate::publish::Found;
use crate::volume::fixture::{available, claimed_by};
use crate::volume::{
    Bytes, CapacityRange, ClaimRefused, Ended, ForgetRefused, InvalidName, Mode, PoolName,
    ReleaseRefused, Tenancy, VolumeId,
};

/// What each of `errors` is answered with.
fn all<E: Into<Error>>(code: Code, errors: impl IntoIterator<Item = E>) {
    for error in errors {
        let error = error.into();
        let told = format!("{error:?}");
        let status = Status::from(error);
        assert_eq!(status.code(), code, "{told}");
        assert!(!status.message().is_empty() && status.details().is_empty(), "{told}");
    }
}

fn id() -> VolumeId {
    claimed_by("pvc-1").id().unwrap()
}

fn name() -> VolumeName {
    available().name
}

fn pool() -> PoolName {
    "fast".parse().unwrap()
}

fn invalid() -> InvalidName {
    "".parse::<PoolName>().unwrap_err()
}

fn refused() -> publish::Refused {
    publish::Refused::Unknown { position: 1, word: None }
}

fn failed() -> host::Error {
    host::Error { call: "open", path: "/v1".into(), errno: Errno::IO }
}

#[test]
fn a_request_that_is_wrong_is_an_invalid_argument() {
    use request::Error as E;
    all(
        Code::InvalidArgument,
        [
            E::Missing("name"),
            E::TooLong { field: "name", most: 128 },
            E::Nul("target_path"),
            E::Name { field: "name", source: invalid() },
            E::Number { field: "max_entries", value: -1, reason: "no" },
            E::Unsupported { field: "f", what: "w", instead: "i" },
            E::Flag(refused()),
            E::UnknownParameter("x".into()),
        ],
    );
    all(Code::NotFound, [E::UnknownVolume("x".into())]);
    all(Code::Aborted, [E::Token("x".into())]);
}

#[test]
fn a_claim_that_is_not_made_says_whether_to_try_elsewhere() {
    use claim::Error as E;
    let shortage = || Box::new(claim::Shortage::default());
    all(Code::Unavailable, [E::NotReady]);
    all(
        Code::AlreadyExists,
        [E::Incompatible {
            claim: "pvc-1".parse().unwrap(),
            holder: name(),
            what: claim::Mismatch::Shared,
        }],
    );
    all(
        Code::InvalidArgument,
        [
            E::UnknownPool { pool: pool(), known: vec![pool()] },
            E::WrongMode { pool: pool(), mode: Mode::Block, asked: Mode::Filesystem },
            E::NotOffered { pool: pool(), what: "btrfs".into(), instead: "ext4" },
        ],
    );
    all(
        Code::ResourceExhausted,
        [
            E::Exhausted { pool: pool(), range: CapacityRange::default(), shortage: shortage() },
            E::Refused { volume: name(), source: ClaimRefused::Cordoned },
        ],
    );
    all(Code::NotFound, [E::NotFound(id())]);
    let (asked, capacity) = (CapacityRange::default(), Bytes(1));
    all(Code::OutOfRange, [E::OutOfRange { id: id(), asked, capacity }]);
}

#[test]
fn what_is_not_mounted_has_the_code_of_the_nodes_tables() {
    use publish::Error as E;
    let (path, other) = (|| "/t".into(), || "/s".into());
    all(Code::NotFound, [E::NotFound { id: id() }, E::NotHere { id: id(), path: path() }]);
    all(
        Code::InvalidArgument,
        [E::Path { id: id(), path: path(), reason: "no" }, E::Flag { id: id(), source: refused() }],
    );
    all(Code::Aborted, [E::Pending { id: id() }]);
    all(Code::AlreadyExists, [E::Incompatible { id: id(), path: path() }]);
    all(
        Code::OutOfRange,
        [E::Size { id: id(), asked: CapacityRange::default(), capacity: Bytes(1) }],
    );
    let limit = Duration::from_secs(1);
    all(Code::DeadlineExceeded, [E::TooSlow { id: id(), path: path(), limit }]);
    all(Code::Unavailable, [E::Stopping { id: id() }]);
    all(Code::Internal, [E::Host { id: id(), source: failed() }]);
    let number = DeviceNumber { major: 7, minor: 0 };
    all(
        Code::FailedPrecondition,
        [
            E::AccessType { id: id(), mode: Mode::Block },
            E::FsType { id: id(), asked: "xfs".into(), has: None },
            E::Elsewhere { id: id(), path: path(), other: other() },
            E::NotStaged { id: id(), staging: other() },
            E::StillPublished { id: id(), targets: vec![path()] },
            E::Occupied { id: id(), path: path(), found: Found::Owned },
            E::InUse { id: id(), path: path() },
            E::LeftBehind { id: id(), path: path() },
            E::NoClone { id: id(), path: path() },
            E::WrongDevice { id: id(), path: path(), expected: number, found: number },
            E::NotBlank { id: id(), path: path(), found: "data".into() },
            E::FilesystemGone { id: id(), path: path(), had: "ext4".into() },
            E::ReadOnly { id: id(), path: path() },
            E::NotClean { id: id() },
            E::PoolGone { id: id(), pool: pool() },
        ],
    );
}

#[test]
fn what_lies_beneath_an_error_of_the_node_decides_its_code() {
    let source = |source| publish::Error::Source { id: id(), source };
    let fingerprint = || Box::new(available().status.fingerprint);
    all(
        Code::FailedPrecondition,
        [
            source(source::Error::Missing { path: "/v1".into() }),
            source(source::Error::Unsuitable { path: "/v1".into() }),
            source(source::Error::Replaced {
                volume: name(),
                path: "/v1".into(),
                recorded: fingerprint(),
                found: fingerprint(),
            }),
        ],
    );
    all(Code::Internal, [source(source::Error::Host(failed()))]);
    let format = |source| publish::Error::Format { id: id(), source };
    let (program, path) = ("mkfs.ext4", || "/dev/sdb".into());
    all(
        Code::FailedPrecondition,
        [format(host::format::Error::NotInstalled { program, package: "e2fsprogs", path: path() })],
    );
    let status = ExitStatus::from_raw(256);
    all(
        Code::Internal,
        [
            format(host::format::Error::Type { fs_type: "btrfs".into(), path: path() }),
            format(host::format::Error::Run {
                program,
                path: path(),
                source: std::io::Error::other("no"),
            }),
            format(host::format::Error::Failed {
                program,
                path: path(),
                status,
                complaint: "no".into(),
            }),
        ],
    );
}

#[test]
fn what_the_inventory_does_not_take_now_is_never_final() {
    use inventory::Error as E;
    let each = |code, error: fn() -> E| {
        all(code, [error()]);
        all(code, [claim::Error::Inventory(error())]);
        all(code, [publish::Error::Inventory { id: id(), source: error() }]);
    };
    each(Code::NotFound, || E::NotFound(name()));
    each(Code::AlreadyExists, || E::Exists(name()));
    each(Code::AlreadyExists, || E::ClaimNameTaken {
        claim: "pvc-1".parse().unwrap(),
        holder: name(),
    });
    each(Code::Aborted, || E::Conflict(name()));
    each(Code::Unavailable, || E::NotWritten { context: "c", source: "no".into() });
    each(Code::Unavailable, || E::OutcomeUnknown { context: "c", source: "no".into() });
}

#[test]
fn a_person_who_is_refused_is_told_of_the_state_that_is_in_the_way() {
    let ended = ReleaseRefused::from(Ended { asked: Tenancy(1), latest: Tenancy(2) });
    all(
        Code::FailedPrecondition,
        [
            Refused::Held(name()),
            Refused::PoolGone { volume: name(), pool: pool() },
            Refused::Release { volume: name(), source: ended },
            Refused::Forget { volume: name(), source: ForgetRefused::Present },
        ],
    );
    let operations = super::super::Operations::default();
    let _first = operations.begin("volume", &name()).unwrap();
    all(Code::Aborted, [operations.begin("volume", &name()).unwrap_err()]);
}

#[test]
fn a_message_says_what_lies_beneath_and_says_nothing_twice() {
    let error = publish::Error::Host { id: id(), source: failed() };
    let told = Status::from(Error::from(error));

    let inventory = claim::Error::Inventory(inventory::Error::NotFound(name()));
    let once = Status::from(Error::from(inventory));

    assert!(
        told.message()
            .ends_with("the kernel refused: open on /v1 failed: Input/output error (os error 5)"),
        "{}",
        told.message()
    );
    assert_eq!(once.message().matches("is not in the inventory").count(), 1);
}
