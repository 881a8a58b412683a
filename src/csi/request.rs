//! What a valid request is: the one place where fields are required, bounded and understood.
//!
//! A request that comes out of here holds valid types only; what is wrong with one that does not is said with the
//! field's name. Nothing here looks anything up: whether a volume exists is not a question of the request.

mod controller;
mod node;

use std::collections::{BTreeSet, HashMap};

use super::proto::csi_v1 as proto;
use crate::claim::Filesystem;
use crate::publish::{Access, AccessType, MountFlags, Refused};
use crate::volume::{AccessMode, Bytes, CapacityRange, InvalidName, Mode, VolumeId, VolumeName};

pub(super) use controller::{Listing, ValidateCapabilities, capacity};
pub(super) use node::{CLAIM_KEY, unpublish, unstage};

/// Bytes of a string (CSI specification, field requirements).
const STRING_MAX: usize = 128;
/// Bytes of a path: `PATH_MAX` of Linux.
const PATH_MAX: usize = 4096;
/// Bytes of a map, keys and values together.
const MAP_MAX: usize = 4096;

impl Error {
    /// Whether the request can be understood and asks for what Berth does not offer: for a question that is an answer.
    pub(super) fn is_unsupported(&self) -> bool {
        matches!(self, Self::Unsupported { .. } | Self::Flag(_))
    }
}

/// What is wrong with a request. Every variant is `INVALID_ARGUMENT` but [`Error::UnknownVolume`], `NOT_FOUND`, and
/// [`Error::Token`], `ABORTED`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A required field is absent or empty.
    #[error("{0} is missing, and is required")]
    Missing(&'static str),
    /// A field is longer than it may be.
    #[error("{field} is longer than {most} bytes")]
    TooLong {
        /// The field.
        field: &'static str,
        /// How long it may be.
        most: usize,
    },
    /// A path holds a NUL byte.
    #[error("{0} has a NUL character")]
    Nul(&'static str),
    /// A name is not one.
    #[error("{field} is not valid")]
    Name {
        /// The field.
        field: &'static str,
        /// Why not.
        #[source]
        source: InvalidName,
    },
    /// A number is not in its range.
    #[error("{field} is {value}: {reason}")]
    Number {
        /// The field.
        field: &'static str,
        /// What it is.
        value: i64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// What is asked for is not offered.
    #[error("{field} asks for {what}, which Berth does not offer: {instead}")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// What it asks for.
        what: &'static str,
        /// What to ask for instead.
        instead: &'static str,
    },
    /// A mount flag is not allowed.
    #[error("volume_capability.mount.mount_flags cannot be had")]
    Flag(#[source] Refused),
    /// A parameter is not known.
    #[error("parameter {0:?} is not known: a StorageClass of Berth has `pool` only")]
    UnknownParameter(String),
    /// The id names no volume that there could be.
    #[error("there is no volume {0:?}: an id is VOLUME@TENANCY")]
    UnknownVolume(String),
    /// The token is not one that this server gave.
    #[error("starting_token {0:?} was not given by this driver: list again from the start")]
    Token(String),
}

fn bounded(field: &'static str, value: String, most: usize) -> Result<String, Error> {
    if value.len() > most {
        return Err(Error::TooLong { field, most });
    }
    Ok(value)
}

/// A required path. Whether it may be used is the operation's to say.
fn path(field: &'static str, value: String) -> Result<std::path::PathBuf, Error> {
    if value.is_empty() {
        return Err(Error::Missing(field));
    }
    optional_path(field, value)
}

fn optional_path(field: &'static str, value: String) -> Result<std::path::PathBuf, Error> {
    if value.contains('\0') {
        return Err(Error::Nul(field));
    }
    bounded(field, value, PATH_MAX).map(Into::into)
}

/// A map of at most 4 KiB.
fn map(field: &'static str, map: &HashMap<String, String>) -> Result<(), Error> {
    let bytes: usize = map.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAP_MAX {
        return Err(Error::TooLong { field, most: MAP_MAX });
    }
    Ok(())
}

/// A required volume id. Text that no id could be is an unknown volume, not a malformed request: ids are opaque to
/// whoever sends them.
pub(super) fn volume_id(value: &str) -> Result<VolumeId, Error> {
    if value.is_empty() {
        return Err(Error::Missing("volume_id"));
    }
    value.parse().map_err(|_| Error::UnknownVolume(value.chars().take(STRING_MAX).collect()))
}

/// A required name of a volume, as a person gives it.
pub(super) fn volume_name(value: String) -> Result<VolumeName, Error> {
    if value.is_empty() {
        return Err(Error::Missing("name"));
    }
    value.try_into().map_err(|source| Error::Name { field: "name", source })
}

/// A volume id of a call that takes something away: for an id that no volume could have there is nothing to do.
pub(super) fn volume_id_if_any(value: &str) -> Result<Option<VolumeId>, Error> {
    match volume_id(value) {
        Ok(id) => Ok(Some(id)),
        Err(Error::UnknownVolume(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Both bounds, or neither; 0 is "not set" (CSI specification, `CapacityRange`).
fn range(range: Option<proto::CapacityRange>) -> Result<CapacityRange, Error> {
    let Some(range) = range else { return Ok(CapacityRange::default()) };
    let required = bound("capacity_range.required_bytes", range.required_bytes)?;
    let limit = bound("capacity_range.limit_bytes", range.limit_bytes)?;
    if let (Some(least), Some(most)) = (required, limit)
        && most < least
    {
        let reason = "the limit is less than what is required";
        let value = range.limit_bytes;
        return Err(Error::Number { field: "capacity_range.limit_bytes", value, reason });
    }
    Ok(CapacityRange { required, limit })
}

/// A range that has to say something.
pub(super) fn required_range(given: Option<proto::CapacityRange>) -> Result<CapacityRange, Error> {
    let range = range(given)?;
    if range == CapacityRange::default() {
        return Err(Error::Missing("capacity_range"));
    }
    Ok(range)
}

fn bound(field: &'static str, value: i64) -> Result<Option<Bytes>, Error> {
    match u64::try_from(value) {
        Ok(0) => Ok(None),
        Ok(bytes) => Ok(Some(Bytes(bytes))),
        Err(_) => Err(Error::Number { field, value, reason: "a size is not negative" }),
    }
}

/// One required capability.
fn access(capability: Option<proto::VolumeCapability>) -> Result<Access, Error> {
    let capability = capability.ok_or(Error::Missing("volume_capability"))?;
    let mode = access_mode(capability.access_mode)?;
    let kind =
        match capability.access_type.ok_or(Error::Missing("volume_capability.access_type"))? {
            proto::volume_capability::AccessType::Block(_) => AccessType::Block,
            proto::volume_capability::AccessType::Mount(mount) => mounted(mount)?,
        };
    Ok(Access { mode, kind })
}

fn mounted(mount: proto::volume_capability::MountVolume) -> Result<AccessType, Error> {
    if !mount.volume_mount_group.is_empty() {
        return Err(Error::Unsupported {
            field: "volume_capability.mount.volume_mount_group",
            what: "a group to mount with",
            instead: "leave the group to the orchestrator (fsGroup)",
        });
    }
    let fs_type = bounded("volume_capability.mount.fs_type", mount.fs_type, STRING_MAX)?;
    let length: usize = mount.mount_flags.iter().map(String::len).sum();
    if length > MAP_MAX {
        return Err(Error::TooLong { field: "volume_capability.mount.mount_flags", most: MAP_MAX });
    }
    let fs_type = (!fs_type.is_empty()).then_some(fs_type);
    let flags = MountFlags::parse(&mount.mount_flags).map_err(Error::Flag)?;
    Ok(AccessType::Mount { fs_type, flags })
}

fn access_mode(mode: Option<proto::volume_capability::AccessMode>) -> Result<AccessMode, Error> {
    use proto::volume_capability::access_mode::Mode as Asked;
    const FIELD: &str = "volume_capability.access_mode";
    let refused = |what| Error::Unsupported {
        field: FIELD,
        what,
        instead: "a local volume is on one node; ask for a SINGLE_NODE mode (ReadWriteOnce or ReadWriteOncePod)",
    };
    match mode.ok_or(Error::Missing(FIELD))?.mode() {
        Asked::SingleNodeWriter => Ok(AccessMode::SingleNodeWriter),
        Asked::SingleNodeReaderOnly => Ok(AccessMode::SingleNodeReaderOnly),
        Asked::SingleNodeSingleWriter => Ok(AccessMode::SingleNodeSingleWriter),
        Asked::SingleNodeMultiWriter => Ok(AccessMode::SingleNodeMultiWriter),
        Asked::MultiNodeReaderOnly => Err(refused("MULTI_NODE_READER_ONLY")),
        Asked::MultiNodeSingleWriter => Err(refused("MULTI_NODE_SINGLE_WRITER")),
        Asked::MultiNodeMultiWriter => Err(refused("MULTI_NODE_MULTI_WRITER")),
        Asked::Unknown => Err(Error::Missing(FIELD)),
    }
}

/// What a volume has to be to have every capability of a required list.
fn accesses(capabilities: Vec<proto::VolumeCapability>) -> Result<(Mode, Filesystem), Error> {
    let accesses = capabilities.into_iter().map(Some).map(access).collect::<Result<Vec<_>, _>>()?;
    let block = accesses.iter().filter(|access| access.kind == AccessType::Block).count();
    match block {
        _ if accesses.is_empty() => Err(Error::Missing("volume_capabilities")),
        0 => Ok((Mode::Filesystem, filesystem(&accesses)?)),
        all if all == accesses.len() => Ok((Mode::Block, Filesystem::default())),
        _ => Err(Error::Unsupported {
            field: "volume_capabilities",
            what: "one volume both as a device and as a directory",
            instead: "ask for one of them",
        }),
    }
}

fn filesystem(accesses: &[Access]) -> Result<Filesystem, Error> {
    let types: BTreeSet<_> = accesses.iter().filter_map(|access| access.kind.fs_type()).collect();
    if types.len() > 1 {
        return Err(Error::Unsupported {
            field: "volume_capabilities",
            what: "one volume with several types of file system",
            instead: "ask for one of them",
        });
    }
    let own = accesses.iter().any(|access| match &access.kind {
        AccessType::Mount { flags, .. } => !flags.filesystem().is_empty(),
        AccessType::Block => false,
    });
    Ok(Filesystem { fs_type: types.first().map(ToString::to_string), own })
}

#[cfg(test)]
mod tests;
