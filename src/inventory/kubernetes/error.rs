//! What an answer of the API server, or its absence, says about what was asked.

use std::time::Duration;

use super::super::{Cause, Error};
use crate::causes;
use crate::volume::VolumeName;

/// How long the API server may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Why a request did not do what it asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// The object is not there.
    Missing,
    /// The object is at another version.
    Conflict,
    /// There is an object of that name.
    Exists,
    /// What it asked breaks a rule of the schema, and would again.
    Invalid(Cause),
    /// It was refused, or never sent.
    Refused(Cause),
    /// It may have been done.
    Unknown(Cause),
}

/// What lies beneath a failure.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the API server answered {code}: {message}")]
    Answer { code: u16, message: String },
    #[error("the API server did not answer for {} s", PATIENCE.as_secs())]
    TooSlow,
    #[error("the API server cannot be asked")]
    Client(#[source] kube::Error),
    #[error("the API server's answer cannot be read")]
    Unreadable(#[source] Cause),
    #[error("{0}")]
    Other(&'static str),
}

impl Failure {
    /// What the client says about a request for the object called `name`.
    pub(super) fn of(error: kube::Error, name: &str) -> Self {
        match error {
            kube::Error::Api(status) => Self::answered(&status, name),
            error if never_sent(&error) => Self::Refused(Box::new(Trouble::Client(error))),
            error => Self::Unknown(Box::new(Trouble::Client(error))),
        }
    }

    /// What the API server answers says whether anything was written, except for faults of its own.
    fn answered(status: &kube::core::Status, name: &str) -> Self {
        let (code, message) = (status.code, status.message.clone());
        let about = status.details.as_ref().map(|details| details.name.as_str());
        let cause = Box::new(Trouble::Answer { code, message });
        match (code, status.reason.as_str()) {
            // Without the object's name it is the kind that is not there, which says nothing of the object.
            (404, _) if about == Some(name) => Self::Missing,
            (409, "AlreadyExists") => Self::Exists,
            (409, _) => Self::Conflict,
            (422, _) => Self::Invalid(cause),
            (400..=499, _) => Self::Refused(cause),
            _ => Self::Unknown(cause),
        }
    }

    pub(super) fn too_slow() -> Self {
        Self::Unknown(Box::new(Trouble::TooSlow))
    }

    /// It was done, but what came of it cannot be read.
    pub(super) fn unreadable(cause: impl Into<Cause>) -> Self {
        Self::Unknown(Box::new(Trouble::Unreadable(cause.into())))
    }

    /// It was not even tried.
    pub(super) fn untried(why: &'static str) -> Self {
        Self::Refused(Box::new(Trouble::Other(why)))
    }

    /// As the error of a change of the volume called `name`.
    pub(super) fn of_change(self, name: &VolumeName, context: &'static str) -> Error {
        match self {
            Self::Missing => Error::NotFound(name.clone()),
            Self::Conflict => Error::Conflict(name.clone()),
            Self::Exists => Error::Exists(name.clone()),
            Self::Invalid(source) | Self::Refused(source) => Error::NotWritten { context, source },
            Self::Unknown(source) => Error::OutcomeUnknown { context, source },
        }
    }

    /// As the error of something that went before a change: the change itself was not written.
    pub(super) fn of_preparation(self, name: &VolumeName, context: &'static str) -> Error {
        match self {
            Self::Unknown(source) => Error::NotWritten { context, source },
            other => other.of_change(name, context),
        }
    }

    /// For the log.
    pub(super) fn sentence(self) -> String {
        causes::chain(&self.of_reading("asking the API server"))
    }

    /// As the error of something that is about no volume and changes none.
    pub(super) fn of_reading(self, context: &'static str) -> Error {
        let source = match self {
            Self::Missing => Box::new(Trouble::Other("it is not there")),
            Self::Conflict => Box::new(Trouble::Other("it has changed")),
            Self::Exists => Box::new(Trouble::Other("it is there already")),
            Self::Invalid(source) | Self::Refused(source) | Self::Unknown(source) => source,
        };
        Error::NotWritten { context, source }
    }
}

/// Whether the request certainly did not reach the API server.
fn never_sent(error: &kube::Error) -> bool {
    match error {
        kube::Error::Service(error) => error
            .downcast_ref::<hyper_util::client::legacy::Error>()
            .is_some_and(hyper_util::client::legacy::Error::is_connect),
        kube::Error::BuildRequest(_)
        | kube::Error::Auth(_)
        | kube::Error::RustlsTls(_)
        | kube::Error::HttpError(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
