//! The operator's service: what a person asks of the running server.

use std::sync::Arc;

use jiff::Timestamp;
use operator::operator_server::Operator;
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tonic::codegen::BoxStream;
use tonic::{Request, Response};

use super::Rpc;
use super::operation::Operations;
use super::proto::operator_v1alpha1 as operator;
use super::request;
use super::status::{Error, Refused};
use crate::claim::Claims;
use crate::discover::Problems;
use crate::discover::found::Problem;
use crate::inventory::{self, Inventory, Recorded};
use crate::pool::Pools;
use crate::volume::{
    CleanMethod, CleanPolicy, LocalVolume, PoolName, Spec, Tenancy, VolumeId, VolumeName,
    WipeRecord,
};

/// The operator's service.
#[derive(Debug, Clone)]
pub struct OperatorService<I> {
    inventory: I,
    claims: Claims<I>,
    pools: watch::Receiver<Arc<Pools>>,
    problems: Problems,
    operations: Operations,
}

impl<I: Inventory> OperatorService<I> {
    /// The service on `inventory`; `operations` is shared with every service of the process.
    pub fn new(
        inventory: I,
        claims: Claims<I>,
        pools: watch::Receiver<Arc<Pools>>,
        problems: Problems,
        operations: Operations,
    ) -> Self {
        Self { inventory, claims, pools, problems, operations }
    }

    async fn list(
        &self,
        request: operator::ListVolumesRequest,
    ) -> Result<Vec<Arc<LocalVolume>>, Error> {
        let all: Vec<_> =
            self.inventory.list().await?.into_iter().map(|recorded| recorded.volume).collect();
        self.require_pool(&request.pool, &all)?;
        let of = |asked: &str, has: &str| asked.is_empty() || asked == has;
        let wanted = |volume: &Arc<LocalVolume>| {
            of(&request.pool, volume.spec.pool.as_str())
                && of(&request.node, volume.spec.node.as_str())
        };
        Ok(all.into_iter().filter(wanted).collect())
    }

    /// A name that no pool has, and no volume of a pool that was, is a mistake.
    fn require_pool(&self, asked: &str, volumes: &[Arc<LocalVolume>]) -> Result<(), Error> {
        let pools = self.pools.borrow().clone();
        let configured = || pools.keys().map(PoolName::as_str);
        let had = volumes.iter().any(|volume| volume.spec.pool.as_str() == asked);
        if asked.is_empty() || had || configured().any(|pool| pool == asked) {
            return Ok(());
        }
        let configured = configured().collect::<Vec<_>>().join(", ");
        Err(Refused::NoPool { asked: asked.to_owned(), configured }.into())
    }

    async fn wipes(&self, request: operator::ListWipesRequest) -> Result<Vec<WipeRecord>, Error> {
        let operator::ListWipesRequest { volume, pool, node } = request;
        let volume = Some(volume).filter(|name| !name.is_empty());
        let volume = volume.map(request::volume_name).transpose()?;
        let of = |asked: &str, has: &str| asked.is_empty() || asked == has;
        let wanted = |wipe: &WipeRecord| {
            let volume = volume.as_ref().is_none_or(|volume| *volume == wipe.volume);
            volume && of(&pool, wipe.pool.as_str()) && of(&node, wipe.node.as_str())
        };
        Ok(self.inventory.wipes().await?.into_iter().filter(wanted).collect())
    }

    async fn clean(&self, name: String) -> Result<Recorded, Error> {
        let name = request::volume_name(name)?;
        let _turn = self.operations.begin("volume", &name)?;
        let pools = self.pools.borrow().clone();
        self.inventory.modify_spec(&name, |volume| ordered(volume, &pools)).await
    }

    async fn release(&self, name: String, tenancy: u64) -> Result<Recorded, Error> {
        let volume = request::volume_name(name)?;
        let tenancy = Tenancy(tenancy);
        let _turn = self.operations.begin("volume", &volume)?;
        let recorded = self.inventory.get(&volume).await?;
        // `DeleteVolume` of an ended tenancy has nothing left to do; a person who names one is mistaken.
        recorded
            .volume
            .may_be_released(tenancy)
            .map_err(|source| Refused::Release { volume: volume.clone(), source })?;
        self.claims.release(&VolumeId { volume: volume.clone(), tenancy }).await?;
        Ok(self.inventory.get(&volume).await?)
    }

    async fn cordon(&self, name: String, cordoned: bool) -> Result<Recorded, Error> {
        let name = request::volume_name(name)?;
        let _turn = self.operations.begin("volume", &name)?;
        let cordon = |volume: &LocalVolume| Ok::<_, Error>(volume.cordoned(cordoned));
        self.inventory.modify_spec(&name, cordon).await
    }

    async fn forget(&self, name: String) -> Result<Recorded, Error> {
        let name = request::volume_name(name)?;
        let _turn = self.operations.begin("volume", &name)?;
        loop {
            let recorded = self.inventory.get(&name).await?;
            recorded
                .volume
                .may_be_forgotten()
                .map_err(|source| Refused::Forget { volume: name.clone(), source })?;
            match self.inventory.remove(&name, recorded.version).await {
                Err(inventory::Error::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
                Ok(()) => return Ok(recorded),
            }
        }
    }
}

/// What the order of a person to wipe makes of a volume.
fn ordered(volume: &LocalVolume, pools: &Pools) -> Result<Spec, Error> {
    let name: VolumeName = volume.name.clone();
    if volume.spec.claim.is_some() {
        return Err(Refused::Held(name).into());
    }
    if volume.is_clean() {
        return Ok(volume.spec.clone());
    }
    let of = volume.spec.pool.clone();
    let Some(pool) = pools.get(&of) else {
        return Err(Refused::PoolGone { volume: name, pool: of }.into());
    };
    let policy = pool.clean_of(&volume.status.fingerprint);
    let wipes = |policy: &CleanPolicy| policy.method != CleanMethod::None;
    match &volume.spec.clean {
        _ if wipes(policy) => Ok(volume.asked_to_clean(policy.clone(), Timestamp::now())),
        // What was promised is due already, and is not taken back.
        Some(promised) if wipes(promised) => {
            Ok(volume.asked_to_clean(promised.clone(), Timestamp::now()))
        }
        _ => Err(Refused::NoWipe { volume: name, pool: of }.into()),
    }
}

/// A problem as the service shows it.
fn told(problem: &Problem) -> operator::Problem {
    operator::Problem {
        pool: problem.pool.to_string(),
        path: problem.path.clone(),
        kind: problem.defect.kind().to_owned(),
        message: problem.to_string(),
    }
}

/// A volume as the service shows it.
fn shown(volume: &LocalVolume) -> operator::Volume {
    // The model has string keys and finite numbers only, which is all that JSON asks for.
    operator::Volume { json: serde_json::to_string(volume).unwrap_or_default() }
}

#[tonic::async_trait]
impl<I: Inventory> Operator for OperatorService<I> {
    async fn list_volumes(
        &self,
        request: Request<operator::ListVolumesRequest>,
    ) -> Rpc<BoxStream<operator::Volume>> {
        let volumes = self.list(request.into_inner()).await?;
        let stream = tokio_stream::iter(volumes).map(|volume| Ok(shown(&volume)));
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_problems(
        &self,
        request: Request<operator::ListProblemsRequest>,
    ) -> Rpc<BoxStream<operator::Problem>> {
        let pool = request.into_inner().pool;
        let problems = self.problems.borrow().clone();
        let of = problems.iter().filter(|one| pool.is_empty() || one.pool.as_str() == pool);
        let told: Vec<_> = of.map(|problem| Ok(told(problem))).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(told))))
    }

    async fn list_wipes(
        &self,
        request: Request<operator::ListWipesRequest>,
    ) -> Rpc<BoxStream<operator::Wipe>> {
        let wipes = self.wipes(request.into_inner()).await?;
        // As in `shown`.
        let shown =
            |wipe| operator::Wipe { json: serde_json::to_string(&wipe).unwrap_or_default() };
        let stream = tokio_stream::iter(wipes).map(move |wipe| Ok(shown(wipe)));
        Ok(Response::new(Box::pin(stream)))
    }

    async fn clean_volume(
        &self,
        request: Request<operator::CleanVolumeRequest>,
    ) -> Rpc<operator::CleanVolumeResponse> {
        let volume = Some(shown(&self.clean(request.into_inner().name).await?.volume));
        Ok(Response::new(operator::CleanVolumeResponse { volume }))
    }

    async fn release_volume(
        &self,
        request: Request<operator::ReleaseVolumeRequest>,
    ) -> Rpc<operator::ReleaseVolumeResponse> {
        let operator::ReleaseVolumeRequest { name, tenancy } = request.into_inner();
        let volume = Some(shown(&self.release(name, tenancy).await?.volume));
        Ok(Response::new(operator::ReleaseVolumeResponse { volume }))
    }

    async fn cordon_volume(
        &self,
        request: Request<operator::CordonVolumeRequest>,
    ) -> Rpc<operator::CordonVolumeResponse> {
        let operator::CordonVolumeRequest { name, cordoned } = request.into_inner();
        let volume = Some(shown(&self.cordon(name, cordoned).await?.volume));
        Ok(Response::new(operator::CordonVolumeResponse { volume }))
    }

    async fn forget_volume(
        &self,
        request: Request<operator::ForgetVolumeRequest>,
    ) -> Rpc<operator::ForgetVolumeResponse> {
        let volume = Some(shown(&self.forget(request.into_inner().name).await?.volume));
        Ok(Response::new(operator::ForgetVolumeResponse { volume }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::config;
    use crate::volume::fixture::{available, delete, released};
    use crate::volume::{Bytes, DeviceIdentity, Fingerprint};

    fn pools(method: &str) -> Pools {
        let text = format!("pools: {{fast: {{path: /mnt, clean: {{method: {method}}}}}}}");
        config::parse(&text, std::path::Path::new("pools.yaml")).unwrap()
    }

    #[test]
    fn what_a_tenant_was_promised_is_not_replaced_by_leaving_its_data() {
        let volume = released();

        let spec = ordered(&volume, &pools("none")).unwrap();

        assert_eq!(spec.clean, Some(delete()));
        let another = ordered(&volume, &pools("reformat")).unwrap();
        assert_eq!(another.clean.unwrap().method, CleanMethod::Reformat);
    }

    #[test]
    fn an_order_to_wipe_never_offers_data_that_was_found() {
        let mut found = available();
        found.status.clean_for = None;

        let refused = ordered(&found, &pools("none")).unwrap_err().to_string();

        assert!(refused.contains("say in the pool how to wipe"), "{refused}");
    }

    #[test]
    fn a_device_is_wiped_by_order_as_its_pool_wipes_devices_and_not_as_it_wipes_directories() {
        let device = DeviceIdentity::Serial("disk".into());
        let mut disk = available();
        disk.status.clean_for = None;
        disk.status.fingerprint = Fingerprint::Device { device, size: Bytes(10) };
        let mixed = |method: &str, devices: &str| {
            let (mut pools, other) = (pools(method), pools(devices));
            let other = other.into_values().next().map(|pool| pool.clean);
            for pool in pools.values_mut() {
                pool.clean_devices.clone_from(&other);
            }
            pools
        };

        let spec = ordered(&disk, &mixed("none", "delete")).unwrap();
        let refused = ordered(&disk, &mixed("delete", "none")).unwrap_err().to_string();

        assert_eq!(spec.clean, Some(CleanPolicy { verify: true, ..delete() }));
        assert!(refused.contains("say in the pool how to wipe"), "{refused}");
    }
}
