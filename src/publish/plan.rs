//! What is to be done for a volume to be at a path, decided from what was asked, what is there and where else it is. Pure.
//!
//! The table of `NodePublishVolume` in the CSI specification, the rules of `NodeStageVolume`, and what may be done with a
//! device that is to get a file system. Whatever is there already and right is left as it is: nothing is ever stacked.

use std::path::PathBuf;

use super::error::Found;
use super::places::Place;
use crate::host::mount::{Attribute, Attributes};
use crate::volume::{AccessMode, Format, Tenancy};

/// What a volume is mounted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A directory, for a file system or a directory.
    Directory,
    /// A file, for a device node.
    File,
}

/// What is at the path now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum There {
    /// Nothing.
    Nothing,
    /// A directory or file that is no mount point.
    Bare(Shape),
    /// This very volume, mounted.
    Own {
        /// With these attributes.
        attributes: Attributes,
        /// With a file system of this type; absent for a device.
        fs_type: Option<String>,
    },
    /// Something else, which is left alone.
    Foreign(Found),
}

/// What was asked for. What a pool adds to every mount is no part of it: it may change while a volume is mounted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// On what.
    pub(super) shape: Shape,
    /// How it may be used at the same time.
    pub(super) access: AccessMode,
    /// Whether it is to be read-only there.
    pub(super) read_only: bool,
    /// With what type of file system; any if there is none.
    pub(super) fs_type: Option<&'a str>,
    /// With which flags, in order.
    pub(super) flags: &'a [String],
    /// What these, the access mode and `read_only` make of its mount.
    pub(super) attributes: Attributes,
    /// What every mount of it has from its source.
    pub(super) inherited: Attributes,
}

/// One step towards it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Make the directory.
    MakeDirectory,
    /// Make the file.
    MakeFile,
    /// Mount the volume there.
    Attach,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing: it is as it was asked for.
    AlreadyDone,
    /// These, in this order.
    Steps(&'static [Step]),
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is there with other arguments.
    Incompatible,
    /// It may be at one place only and is at this one.
    Elsewhere(PathBuf),
    /// Something else is there.
    Occupied(Found),
}

/// Plans the volume at a target. `recorded` is what is known of this path, `others` are the targets at which the volume
/// is mounted besides.
pub(super) fn publish(
    wanted: Wanted<'_>,
    there: &There,
    recorded: Option<&Place>,
    others: &[Place],
) -> Result<Plan, Refusal> {
    let plan = place(wanted, there, recorded)?;
    let shared = |access| access == AccessMode::SingleNodeMultiWriter;
    let all_shared = shared(wanted.access) && others.iter().all(|p| shared(p.published.access));
    match others.first() {
        // What is there already stays whatever else there is.
        Some(other) if plan != Plan::AlreadyDone && !all_shared => {
            Err(Refusal::Elsewhere(PathBuf::from(&other.published.path)))
        }
        _ => Ok(plan),
    }
}

/// Plans the volume at its staging path, where it is mounted or, if not `is_mounted`, has a directory that stands for it.
/// `other` is another path at which it is staged.
pub(super) fn stage(
    wanted: Wanted<'_>,
    is_mounted: bool,
    there: &There,
    recorded: Option<&Place>,
    other: Option<&Place>,
) -> Result<Plan, Refusal> {
    if let Some(other) = other {
        return Err(Refusal::Elsewhere(PathBuf::from(&other.published.path)));
    }
    if is_mounted {
        return place(wanted, there, recorded);
    }
    // That it was verified is what is recorded.
    match (there, recorded) {
        (There::Foreign(found), _) => Err(Refusal::Occupied(found.clone())),
        (There::Bare(Shape::File), _) => {
            Err(Refusal::Occupied(Found::Unsuitable("a file (a volume is staged at a directory)")))
        }
        (_, Some(place)) if !wanted.is_as(place) => Err(Refusal::Incompatible),
        (There::Nothing, _) => Ok(Plan::Steps(&[Step::MakeDirectory])),
        (There::Bare(Shape::Directory) | There::Own { .. }, Some(_)) => Ok(Plan::AlreadyDone),
        (There::Bare(Shape::Directory) | There::Own { .. }, None) => Ok(Plan::Steps(&[])),
    }
}

fn place(wanted: Wanted<'_>, there: &There, recorded: Option<&Place>) -> Result<Plan, Refusal> {
    match there {
        There::Own { attributes, fs_type }
            if wanted.is_met_by(*attributes, fs_type.as_deref(), recorded) =>
        {
            Ok(Plan::AlreadyDone)
        }
        There::Own { .. } => Err(Refusal::Incompatible),
        There::Foreign(found) => Err(Refusal::Occupied(found.clone())),
        There::Bare(shape) if *shape == wanted.shape => Ok(Plan::Steps(&[Step::Attach])),
        There::Bare(shape) => Err(Refusal::Occupied(Found::Unsuitable(match shape {
            Shape::Directory => "a directory (a device node is mounted on a file)",
            Shape::File => "a file (a file system is mounted on a directory)",
        }))),
        There::Nothing => Ok(Plan::Steps(match wanted.shape {
            Shape::Directory => &[Step::MakeDirectory, Step::Attach],
            Shape::File => &[Step::MakeFile, Step::Attach],
        })),
    }
}

impl Wanted<'_> {
    /// Whether a mount with the attributes `actual` of a file system of type `fs_type`, recorded as `recorded`, is what
    /// is wanted. Attributes that an administrator or a pool added to it do no harm; a missing restriction does.
    fn is_met_by(
        self,
        actual: Attributes,
        fs_type: Option<&str>,
        recorded: Option<&Place>,
    ) -> bool {
        let read_only = [self.attributes, self.inherited].map(|a| a.has(Attribute::ReadOnly));
        actual.has_all(self.attributes.restrictions())
            && self.fs_type.is_none_or(|asked| fs_type == Some(asked))
            && (!actual.has(Attribute::ReadOnly) || read_only.contains(&true))
            && recorded.is_none_or(|place| self.is_as(place))
    }

    /// Whether `place` was made by the same arguments, as far as they are still known.
    fn is_as(self, place: &Place) -> bool {
        place.published.access == self.access
            && place.published.read_only == self.read_only
            && place.published.flags.as_ref().is_none_or(|flags| flags == self.flags)
    }
}

/// What was found on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Contents {
    /// Nothing, by the rule of [`crate::host::signature`].
    Blank,
    /// A file system of this type, and nothing else.
    Known(String),
    /// No signature, and bytes that are not zero, as this says.
    Data(String),
    /// Something else, as this says.
    Other(String),
}

/// What may be done with a device that is to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Prepare {
    /// Make a file system of this type, then mount it.
    Format(String),
    /// Mount it: it was made for this tenancy, or the pool hands out what it finds.
    Mount(String),
    /// Mount it if there is nothing in it: it is one that a wipe left.
    MountEmpty(String),
    /// As [`Prepare::MountEmpty`] if it can be mounted; else make it anew: it is what a format that was begun left.
    Resume(String),
}

/// Why nothing may be done with a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unprepared {
    /// Another type was asked for than the one it has, or one that is not made.
    Type(Option<String>),
    /// It holds something that is nobody's to overwrite.
    NotBlank(String),
    /// This tenancy had a file system of this type there, and it is gone.
    Gone(String),
}

/// Decides about a device from what is recorded of it, what is on it, and what was asked for.
///
/// It is formatted in two cases only: it is blank and this tenancy was given nothing yet, or it holds what the making of
/// a file system for this tenancy may have left, which was begun and never finished, so that nobody ever had it. A file
/// system that can be mounted is no such thing: somebody else may have made it since.
pub(super) fn prepare(
    recorded: Option<&Format>,
    tenancy: Tenancy,
    contents: &Contents,
    asked: Option<&str>,
    pool: PoolRule<'_>,
) -> Result<Prepare, Unprepared> {
    let wanted = asked.unwrap_or(pool.fs_type);
    if !pool.made.contains(&wanted) {
        return Err(Unprepared::Type(None));
    }
    let fits = |has: &str| asked.is_none_or(|asked| asked == has);
    let recorded = recorded.filter(|format| format.tenancy == tenancy);
    if let Some(had) = recorded.filter(|format| format.done) {
        return match contents {
            Contents::Known(has) if had.fs_type != *has => {
                Err(Unprepared::Gone(had.fs_type.clone()))
            }
            Contents::Known(has) if !fits(has) => Err(Unprepared::Type(Some(has.clone()))),
            Contents::Known(has) => Ok(Prepare::Mount(has.clone())),
            _ => Err(Unprepared::Gone(had.fs_type.clone())),
        };
    }
    let begun = recorded.map(|format| format.fs_type.as_str());
    match contents {
        Contents::Blank => Ok(Prepare::Format(wanted.to_owned())),
        Contents::Data(_) if begun.is_some() => Ok(Prepare::Format(wanted.to_owned())),
        Contents::Data(found) | Contents::Other(found) => Err(Unprepared::NotBlank(found.clone())),
        Contents::Known(has) if !pool.made.contains(&has.as_str()) => {
            Err(Unprepared::NotBlank(has.clone()))
        }
        Contents::Known(has) if !fits(has) => Err(Unprepared::Type(Some(has.clone()))),
        Contents::Known(has) if begun == Some(has) => Ok(Prepare::Resume(has.clone())),
        Contents::Known(has) if pool.accepts_data => Ok(Prepare::Mount(has.clone())),
        Contents::Known(has) => Ok(Prepare::MountEmpty(has.clone())),
    }
}

/// What a pool says of the file systems on its devices.
#[derive(Debug, Clone, Copy)]
pub(super) struct PoolRule<'a> {
    /// The type that is made when none is asked for.
    pub(super) fs_type: &'a str,
    /// The types that Berth makes.
    pub(super) made: &'a [&'a str],
    /// Whether a tenant may be given data that was there before it.
    pub(super) accepts_data: bool,
}

#[cfg(test)]
mod tests;
