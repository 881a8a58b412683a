//! Every error of the crate to a gRPC code and a sentence: the one place where codes are chosen.
//!
//! The codes are the specification's (tables of each RPC), read with what the orchestrator makes of them: of
//! `CreateVolume`'s errors only `RESOURCE_EXHAUSTED` lets the scheduler try another node. `ABORTED`, `UNAVAILABLE`,
//! `CANCELLED` and `DEADLINE_EXCEEDED` mean that something may be under way: the provisioner asks again until it gets
//! another answer, even for a claim that is deleted meanwhile, and the kubelet takes the volume for perhaps mounted.
//! Every other code is final: it says that nothing is under way, of this call or of any before it. So whatever cannot
//! be known now, because the inventory cannot be asked or written now, is not final, also where this very call wrote
//! nothing: an earlier one, whose answer was lost, may have.

use tonic::{Code, Status};

use super::operation::Busy;
use super::request;
use crate::volume::VolumeName;
use crate::{claim, host, inventory, publish, source};

/// Whatever a handler may meet.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Request(#[from] request::Error),
    #[error(transparent)]
    Busy(#[from] Busy),
    #[error(transparent)]
    Claim(#[from] claim::Error),
    #[error(transparent)]
    Publish(#[from] publish::Error),
    #[error(transparent)]
    Inventory(#[from] inventory::Error),
    #[error(transparent)]
    Operator(#[from] Refused),
}

/// Why a person's order is not carried out. `FAILED_PRECONDITION`.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("volume {0} is held by a claim: it is wiped when the claim ends (`berth release`)")]
    Held(VolumeName),
    #[error(
        "volume {volume}: its pool {pool} is not configured here, so that nothing says how to wipe it; put it back"
    )]
    PoolGone { volume: VolumeName, pool: crate::volume::PoolName },
    #[error("pool {asked} is not configured: the pools are {configured}")]
    NoPool { asked: String, configured: String },
    #[error(
        "volume {volume}: its pool {pool} says to wipe nothing (method: none); say in the pool how to wipe, or \
         newVolumes: accept to offer what volumes hold"
    )]
    NoWipe { volume: VolumeName, pool: crate::volume::PoolName },
    #[error("volume {volume} is not released")]
    Release {
        volume: VolumeName,
        #[source]
        source: crate::volume::ReleaseRefused,
    },
    #[error("volume {volume} is not forgotten")]
    Forget {
        volume: VolumeName,
        #[source]
        source: crate::volume::ForgetRefused,
    },
}

impl From<Error> for Status {
    /// `details` stays empty, as the specification demands.
    fn from(error: Error) -> Self {
        Self::new(code(&error), crate::causes::chain(&error))
    }
}

fn code(error: &Error) -> Code {
    match error {
        Error::Request(error) => of_request(error),
        Error::Busy(_) => Code::Aborted,
        Error::Claim(error) => of_claim(error),
        Error::Publish(error) => of_publish(error),
        Error::Inventory(error) => of_inventory(error),
        Error::Operator(Refused::NoPool { .. }) => Code::NotFound,
        Error::Operator(_) => Code::FailedPrecondition,
    }
}

fn of_request(error: &request::Error) -> Code {
    use request::Error::{
        Flag, Missing, Name, Nul, Number, Token, TooLong, UnknownParameter, UnknownVolume,
        Unsupported,
    };
    match error {
        Missing(_)
        | TooLong { .. }
        | Nul(_)
        | Name { .. }
        | Number { .. }
        | Unsupported { .. }
        | Flag(_)
        | UnknownParameter(_) => Code::InvalidArgument,
        UnknownVolume(_) => Code::NotFound,
        Token(_) => Code::Aborted,
    }
}

fn of_claim(error: &claim::Error) -> Code {
    use claim::Error::{
        Exhausted, Incompatible, Inventory, NotFound, NotOffered, NotReady, OutOfRange, Refused,
        UnknownPool, WrongMode,
    };
    match error {
        NotReady => Code::Unavailable,
        Incompatible { .. } => Code::AlreadyExists,
        UnknownPool { .. } | WrongMode { .. } | NotOffered { .. } => Code::InvalidArgument,
        Exhausted { .. } | Refused { .. } => Code::ResourceExhausted,
        NotFound(_) => Code::NotFound,
        OutOfRange { .. } => Code::OutOfRange,
        Inventory(error) => of_inventory(error),
    }
}

fn of_publish(error: &publish::Error) -> Code {
    use publish::Error as E;
    match error {
        E::NotFound { .. } | E::NotHere { .. } => Code::NotFound,
        E::Path { .. } | E::Flag { .. } => Code::InvalidArgument,
        E::Pending { .. } => Code::Aborted,
        E::Incompatible { .. } => Code::AlreadyExists,
        E::AccessType { .. }
        | E::FsType { .. }
        | E::Elsewhere { .. }
        | E::NotStaged { .. }
        | E::StillPublished { .. }
        | E::Occupied { .. }
        | E::InUse { .. }
        | E::Held { .. }
        | E::LeftBehind { .. }
        | E::NoClone { .. }
        | E::WrongDevice { .. }
        | E::NotBlank { .. }
        | E::FilesystemGone { .. }
        | E::ReadOnly { .. }
        | E::NotClean { .. }
        | E::PoolGone { .. } => Code::FailedPrecondition,
        E::Source { source, .. } => of_source(source),
        E::Size { .. } => Code::OutOfRange,
        E::TooSlow { .. } => Code::DeadlineExceeded,
        E::Format { source, .. } => of_format(source),
        E::Host { .. } => Code::Internal,
        E::Inventory { source, .. } => of_inventory(source),
        E::Stopping { .. } => Code::Unavailable,
    }
}

fn of_source(error: &source::Error) -> Code {
    match error {
        source::Error::Missing { .. }
        | source::Error::Unsuitable { .. }
        | source::Error::Replaced { .. } => Code::FailedPrecondition,
        source::Error::Host(_) => Code::Internal,
    }
}

fn of_format(error: &host::format::Error) -> Code {
    match error {
        host::format::Error::NotInstalled { .. } => Code::FailedPrecondition,
        host::format::Error::Type { .. }
        | host::format::Error::Run { .. }
        | host::format::Error::Failed { .. } => Code::Internal,
    }
}

fn of_inventory(error: &inventory::Error) -> Code {
    use inventory::Error::{
        ClaimNameTaken, Conflict, Exists, NotFound, NotWritten, OutcomeUnknown,
    };
    match error {
        NotFound(_) => Code::NotFound,
        ClaimNameTaken { .. } | Exists(_) => Code::AlreadyExists,
        // The steps retry a conflict themselves; if one comes out all the same, another call is at work.
        Conflict(_) => Code::Aborted,
        NotWritten { .. } | OutcomeUnknown { .. } => Code::Unavailable,
    }
}

#[cfg(test)]
mod tests;
