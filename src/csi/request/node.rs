//! Requests to the node.

use std::collections::HashMap;
use std::path::PathBuf;

use super::{Error, access, map, optional_path, path, range, volume_id, volume_id_if_any};
use crate::csi::proto::csi_v1 as proto;
use crate::publish::{ExpandNode, Expected, Publish, Stage, Unpublish, Unstage};
use crate::volume::{ClaimName, VolumeId};

/// The key of a volume's context that has the claim's name.
pub(in crate::csi) const CLAIM_KEY: &str = "berth.dev/claim";

impl TryFrom<proto::NodeStageVolumeRequest> for Stage {
    type Error = Error;

    fn try_from(request: proto::NodeStageVolumeRequest) -> Result<Self, Error> {
        required_id(&request.volume_id)?;
        let staging = path("staging_target_path", request.staging_target_path)?;
        let access = access(request.volume_capability)?;
        map("publish_context", &request.publish_context)?;
        let claim = claim(request.volume_context)?;
        Ok(Self { id: volume_id(&request.volume_id)?, claim, staging, access })
    }
}

impl TryFrom<proto::NodePublishVolumeRequest> for Publish {
    type Error = Error;

    fn try_from(request: proto::NodePublishVolumeRequest) -> Result<Self, Error> {
        required_id(&request.volume_id)?;
        let target = path("target_path", request.target_path)?;
        let access = access(request.volume_capability)?;
        map("publish_context", &request.publish_context)?;
        let claim = claim(request.volume_context)?;
        // Absent, it is a volume that was not staged, which is the operation's to say.
        let staging = optional_path("staging_target_path", request.staging_target_path)?;
        let id = volume_id(&request.volume_id)?;
        Ok(Self { id, claim, staging, target, access, read_only: request.readonly })
    }
}

/// `NodeUnstageVolume`; nothing for an id that no volume could have.
pub(in crate::csi) fn unstage(
    request: proto::NodeUnstageVolumeRequest,
) -> Result<Option<Unstage>, Error> {
    let id = volume_id_if_any(&request.volume_id)?;
    let staging = path("staging_target_path", request.staging_target_path)?;
    Ok(id.map(|id| Unstage { id, staging }))
}

/// `NodeUnpublishVolume`; nothing for an id that no volume could have.
pub(in crate::csi) fn unpublish(
    request: proto::NodeUnpublishVolumeRequest,
) -> Result<Option<Unpublish>, Error> {
    let id = volume_id_if_any(&request.volume_id)?;
    let target = path("target_path", request.target_path)?;
    Ok(id.map(|id| Unpublish { id, target }))
}

impl TryFrom<proto::NodeGetVolumeStatsRequest> for (VolumeId, PathBuf) {
    type Error = Error;

    fn try_from(request: proto::NodeGetVolumeStatsRequest) -> Result<Self, Error> {
        required_id(&request.volume_id)?;
        let path = path("volume_path", request.volume_path)?;
        Ok((volume_id(&request.volume_id)?, path))
    }
}

impl TryFrom<proto::NodeGetVolumeHealthRequest> for (VolumeId, Expected) {
    type Error = Error;

    fn try_from(request: proto::NodeGetVolumeHealthRequest) -> Result<Self, Error> {
        required_id(&request.volume_id)?;
        let named = |field, value| -> Result<Option<PathBuf>, Error> {
            Ok(Some(optional_path(field, value)?).filter(|path| !path.as_os_str().is_empty()))
        };
        let target = named("volume_publish_path", request.volume_publish_path)?;
        let staging = named("staging_target_path", request.staging_target_path)?;
        let expected = Expected { staging, targets: target.into_iter().collect() };
        Ok((volume_id(&request.volume_id)?, expected))
    }
}

impl TryFrom<proto::NodeExpandVolumeRequest> for ExpandNode {
    type Error = Error;

    fn try_from(request: proto::NodeExpandVolumeRequest) -> Result<Self, Error> {
        required_id(&request.volume_id)?;
        let path = path("volume_path", request.volume_path)?;
        let range = range(request.capacity_range)?;
        Ok(Self { id: volume_id(&request.volume_id)?, path, range })
    }
}

/// The claim that a volume's context names. Whoever made a volume's object by hand may have left it out.
fn claim(mut context: HashMap<String, String>) -> Result<Option<ClaimName>, Error> {
    map("volume_context", &context)?;
    let named = |source| Error::Name { field: "volume_context berth.dev/claim", source };
    context.remove(CLAIM_KEY).map(ClaimName::try_from).transpose().map_err(named)
}

/// What is missing is said before what is not known, whatever the order of the fields.
fn required_id(id: &str) -> Result<(), Error> {
    if id.is_empty() { Err(Error::Missing("volume_id")) } else { Ok(()) }
}
