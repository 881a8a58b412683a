//! Requests to the controller.

use std::collections::HashMap;

use super::{Error, accesses, map, range, required_range, volume_id};
use crate::claim::{CapacityQuery, ClaimRequest, Filesystem, Topology, unsuited};
use crate::csi::TOPOLOGY_KEY;
use crate::csi::proto::csi_v1 as proto;
use crate::volume::{
    CapacityRange, ClaimName, InvalidName, LocalVolume, Mode, PersistentVolumeClaim, PoolName,
    VolumeId, VolumeName,
};

/// The prefix of parameters that a sidecar adds or interprets.
const SIDECAR: &str = "csi.storage.k8s.io/";
/// The prefix of what Kubernetes adds to a volume's context.
const ORCHESTRATOR: &str = "storage.kubernetes.io/";
/// The form of the tokens of lists; another form gets another number.
const TOKEN: &str = "1:";

impl TryFrom<proto::CreateVolumeRequest> for ClaimRequest {
    type Error = Error;

    fn try_from(request: proto::CreateVolumeRequest) -> Result<Self, Error> {
        let named = |source| Error::Name { field: "name", source };
        let name: ClaimName = match request.name {
            name if name.is_empty() => return Err(Error::Missing("name")),
            name => name.try_into().map_err(named)?,
        };
        let range = range(request.capacity_range)?;
        let (mode, filesystem) = accesses(request.volume_capabilities)?;
        if request.volume_content_source.is_some() {
            return Err(Error::Unsupported {
                field: "volume_content_source",
                what: "a volume made from another or from a snapshot",
                instead: "make an empty one and copy",
            });
        }
        if !request.mutable_parameters.is_empty() {
            return Err(Error::Unsupported {
                field: "mutable_parameters",
                what: "parameters that change later",
                instead: "use a StorageClass of its own for each kind of volume",
            });
        }
        let parameters = Parameters::read(request.parameters)?;
        let pool = parameters.pool.ok_or(Error::Missing("parameter pool"))?;
        let topology = request.accessibility_requirements.map(topology).unwrap_or_default();
        Ok(Self { name, pool, mode, range, filesystem, topology, pvc: parameters.pvc })
    }
}

/// What the parameters of a StorageClass say, with what the provisioner adds.
#[derive(Debug, Default)]
struct Parameters {
    pool: Option<PoolName>,
    pvc: Option<PersistentVolumeClaim>,
}

impl Parameters {
    fn read(parameters: HashMap<String, String>) -> Result<Self, Error> {
        map("parameters", &parameters)?;
        let mut read = Self::default();
        let (mut namespace, mut name) = (None, None);
        for (key, value) in parameters {
            match key.strip_prefix(SIDECAR) {
                Some("pvc/namespace") => namespace = Some(value),
                Some("pvc/name") => name = Some(value),
                // The sidecars' own: secrets' names, the file system type, the volume's name.
                Some(_) => {}
                None if key == "pool" => read.pool = Some(pool(value)?),
                None => return Err(Error::UnknownParameter(key.chars().take(64).collect())),
            }
        }
        let pvc = namespace.zip(name);
        read.pvc = pvc.map(|(namespace, name)| PersistentVolumeClaim { namespace, name });
        Ok(read)
    }
}

fn pool(value: String) -> Result<PoolName, Error> {
    let named = |source: InvalidName| Error::Name { field: "parameter pool", source };
    value.try_into().map_err(named)
}

/// The values of our key, in order. A term that does not name it is one that no volume of ours satisfies.
fn topology(requirement: proto::TopologyRequirement) -> Topology {
    let values = |terms: Vec<proto::Topology>| terms.into_iter().map(topology_value).collect();
    Topology { requisite: values(requirement.requisite), preferred: values(requirement.preferred) }
}

fn topology_value(mut term: proto::Topology) -> String {
    term.segments.remove(TOPOLOGY_KEY).unwrap_or_default()
}

/// `GetCapacity`; nothing where no volume is made with such parameters or has such capabilities.
pub(in crate::csi) fn capacity(
    request: proto::GetCapacityRequest,
) -> Result<Option<CapacityQuery>, Error> {
    let (mode, filesystem) = match request.volume_capabilities {
        none if none.is_empty() => (None, Filesystem::default()),
        some => match accesses(some) {
            Ok((mode, filesystem)) => (Some(mode), filesystem),
            Err(error) if error.is_unsupported() => return Ok(None),
            Err(error) => return Err(error),
        },
    };
    let pool = Parameters::read(request.parameters)?.pool;
    let topology = request.accessible_topology.map(topology_value);
    Ok(pool.map(|pool| CapacityQuery { pool, mode, filesystem, topology }))
}

/// `ValidateVolumeCapabilities`: whether a volume has every one of some capabilities.
#[derive(Debug)]
pub(in crate::csi) struct ValidateCapabilities {
    /// The volume.
    pub(in crate::csi) id: VolumeId,
    /// What has the capabilities, or why nothing has.
    asked: Result<(Mode, Filesystem), Error>,
    /// The pool that it is believed to be of, if any.
    pool: Result<Option<PoolName>, Error>,
    /// The context that it is believed to have.
    context: HashMap<String, String>,
    /// Whether parameters that change later are asked about.
    mutable: bool,
}

impl TryFrom<proto::ValidateVolumeCapabilitiesRequest> for ValidateCapabilities {
    type Error = Error;

    fn try_from(request: proto::ValidateVolumeCapabilitiesRequest) -> Result<Self, Error> {
        if request.volume_id.is_empty() {
            return Err(Error::Missing("volume_id"));
        }
        // What is not supported is an answer here; only what is not there, or cannot be understood, is an error.
        let asked = match accesses(request.volume_capabilities) {
            Err(error) if !error.is_unsupported() => return Err(error),
            asked => asked,
        };
        Ok(Self {
            id: volume_id(&request.volume_id)?,
            asked,
            pool: Parameters::read(request.parameters).map(|parameters| parameters.pool),
            context: request.volume_context,
            mutable: !request.mutable_parameters.is_empty(),
        })
    }
}

impl ValidateCapabilities {
    /// Why `volume`, whose context is `context`, is not what is asked about.
    pub(in crate::csi) fn refusal(
        self,
        volume: &LocalVolume,
        context: &HashMap<String, String>,
    ) -> Option<String> {
        let told = |error: &Error| {
            let beneath = std::error::Error::source(error).map(|cause| format!(": {cause}"));
            format!("{error}{}", beneath.unwrap_or_default())
        };
        let (mode, filesystem) = match &self.asked {
            Ok(asked) => asked,
            Err(error) => return Some(told(error)),
        };
        let (id, spec) = (&self.id, &volume.spec);
        if *mode != spec.mode {
            return Some(format!("volume {id} is of mode {}", spec.mode));
        }
        if let Some(unsuited) = unsuited(volume, filesystem) {
            return Some(format!("volume {id} cannot be had so: {unsuited}"));
        }
        match &self.pool {
            Err(error) => return Some(told(error)),
            Ok(Some(pool)) if *pool != spec.pool => {
                return Some(format!("volume {id} is of pool {}", spec.pool));
            }
            Ok(_) => {}
        }
        // An orchestrator adds what is its own.
        let is_ours = |(key, value): (&String, &String)| {
            key.starts_with(ORCHESTRATOR) || context.get(key) == Some(value)
        };
        if !self.context.iter().all(is_ours) {
            return Some(format!("volume {id} has another volume_context"));
        }
        self.mutable.then(|| "no parameters change later: leave mutable_parameters out".into())
    }
}

/// Which page of a list is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::csi) struct Listing {
    /// The last name of the page before.
    pub(in crate::csi) after: Option<VolumeName>,
    /// How many entries the page may have.
    pub(in crate::csi) most: usize,
}

impl Listing {
    /// Entries of the largest page: a message of that many stays well under the 4 MiB that clients take.
    pub(in crate::csi) const PAGE: usize = 1000;

    fn read(max_entries: i32, starting_token: &str) -> Result<Self, Error> {
        let most = match usize::try_from(max_entries) {
            Ok(0) => Self::PAGE,
            Ok(most) => most.min(Self::PAGE),
            Err(_) => {
                let value = max_entries.into();
                let reason = "a number of entries is not negative";
                return Err(Error::Number { field: "max_entries", value, reason });
            }
        };
        if starting_token.is_empty() {
            return Ok(Self { after: None, most });
        }
        let name = starting_token.strip_prefix(TOKEN).and_then(|name| name.parse().ok());
        let name = name.ok_or_else(|| Error::Token(starting_token.chars().take(64).collect()))?;
        Ok(Self { after: Some(name), most })
    }

    /// The token of the page that follows `last`. It is the name itself: it outlives the server, and the volume too.
    pub(in crate::csi) fn token(last: &VolumeName) -> String {
        format!("{TOKEN}{last}")
    }
}

impl TryFrom<proto::ListVolumesRequest> for Listing {
    type Error = Error;

    fn try_from(request: proto::ListVolumesRequest) -> Result<Self, Error> {
        Self::read(request.max_entries, &request.starting_token)
    }
}

impl TryFrom<proto::ControllerListVolumeHealthRequest> for Listing {
    type Error = Error;

    fn try_from(request: proto::ControllerListVolumeHealthRequest) -> Result<Self, Error> {
        Self::read(request.max_entries, &request.starting_token)
    }
}

impl TryFrom<proto::ControllerExpandVolumeRequest> for (VolumeId, CapacityRange) {
    type Error = Error;

    fn try_from(request: proto::ControllerExpandVolumeRequest) -> Result<Self, Error> {
        if request.volume_id.is_empty() {
            return Err(Error::Missing("volume_id"));
        }
        let range = required_range(request.capacity_range)?;
        Ok((volume_id(&request.volume_id)?, range))
    }
}
