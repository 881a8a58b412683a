//! What a kubelet and a provisioner do in a life: the calls, repeated until they succeed, whatever becomes of the server.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use berth::volume::{LocalVolume, Phase};
use tonic::{Code, Status};

use super::{FAILURES, LASTS, Life, PATIENCE, PAUSE, Point, Step};
use crate::support::inject::{Armed, Fault, Injector};
use crate::support::{Berth, requests};

/// The caller's calls.
impl Life {
    pub(super) fn berth(&self) -> &Berth {
        &self.server.as_ref().unwrap().0
    }

    pub(super) fn injector(&self) -> &Injector {
        &self.server.as_ref().unwrap().1
    }

    pub(super) fn volume(&self) -> Result<LocalVolume, Status> {
        let mut volumes = self.berth().try_volumes()?;
        assert!(volumes.len() <= 1, "a volume was found twice: {volumes:?}");
        volumes.pop().ok_or_else(|| Status::unavailable("not found yet"))
    }

    pub(super) fn is(&self, phase: Phase) -> Result<bool, Status> {
        Ok(self.volume()?.phase() == phase)
    }

    pub(super) fn create(&self, name: &str) -> Result<String, Status> {
        let mut request = requests::create(name, "fast", 1);
        request.volume_capabilities = vec![self.kind.capability()];
        let answer = self.berth().controller(async |client| client.create_volume(request).await)?;
        Ok(answer.volume.unwrap().volume_id)
    }

    pub(super) fn stage(&self) -> Result<(), Status> {
        let (id, staging) = (self.id.as_deref().unwrap(), self.staging());
        fs::create_dir_all(&staging).unwrap();
        let mut request = requests::stage(id, &staging);
        request.volume_capability = Some(self.kind.capability());
        self.berth().node(async |client| client.node_stage_volume(request).await).map(drop)
    }

    pub(super) fn publish(&self) -> Result<(), Status> {
        let id = self.id.as_deref().unwrap();
        let mut request = requests::publish(id, &self.staging(), &self.target());
        request.volume_capability = Some(self.kind.capability());
        self.berth().node(async |client| client.node_publish_volume(request).await).map(drop)
    }

    pub(super) fn unpublish(&self) -> Result<(), Status> {
        let request = requests::unpublish(self.id.as_deref().unwrap(), &self.target());
        self.berth().node(async |client| client.node_unpublish_volume(request).await).map(drop)
    }

    pub(super) fn unstage(&self) -> Result<(), Status> {
        let request = requests::unstage(self.id.as_deref().unwrap(), &self.staging());
        self.berth().node(async |client| client.node_unstage_volume(request).await)?;
        // So does the kubelet, and so it stays where something is still mounted there.
        let _ = fs::remove_dir(self.staging());
        Ok(())
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.host.path("kubelet/staging")
    }

    pub(super) fn target(&self) -> PathBuf {
        self.host.path("kubelet/target")
    }
}

/// Faults and what is done about them.
impl Life {
    pub(super) fn start(&mut self, armed: Option<Armed>) {
        let mut injector = None;
        let berth = Berth::spawn_by(&self.host, &self.config, &[], |command| {
            let (child, one) = Injector::launch(command, armed);
            injector = Some(one);
            child
        });
        self.server = Some((berth, injector.unwrap()));
        self.until("the server to be ready", |life| Ok(life.berth().is_ready().then_some(())));
    }

    /// Asks again and again, as a caller does, and starts the server again when a fault has ended it.
    pub(super) fn until<T>(
        &mut self,
        what: &str,
        mut ask: impl FnMut(&mut Self) -> Result<Option<T>, Status>,
    ) -> T {
        let begun = Instant::now();
        loop {
            match ask(self) {
                Ok(Some(found)) => return found,
                Ok(None) => {}
                Err(status) => self.judge(&status),
            }
            self.revive();
            let waited = begun.elapsed();
            if waited > LASTS && matches!(self.point, Some(Point { fault: Fault::Fail { .. }, .. }))
            {
                self.injector().heal();
            }
            assert!(
                waited < PATIENCE,
                "waited in vain for {what}, after {:?}",
                self.injector().met()
            );
            let (_, runtime) = self.berth().connection();
            runtime.block_on(async { tokio::time::sleep(PAUSE).await });
        }
    }

    /// Whether a failure is one that a caller may be told of.
    pub(super) fn judge(&mut self, status: &Status) {
        self.failures += 1;
        let fault = self.point.map(|point| point.fault);
        assert!(fault.is_some(), "without a fault: {status:?}");
        if self.failures >= FAILURES && matches!(fault, Some(Fault::Fail { .. })) {
            self.injector().heal();
        }
        let sensible = matches!(
            status.code(),
            Code::Internal
                | Code::Unavailable
                | Code::Aborted
                | Code::FailedPrecondition
                | Code::ResourceExhausted
                | Code::DeadlineExceeded
        );
        let killed = matches!(fault, Some(Fault::Kill));
        assert!(sensible || killed, "no sensible answer: {status:?}");
    }

    /// Starts the server again if it has ended.
    pub(super) fn revive(&mut self) {
        let killed = self.injector().killed();
        let (berth, injector) = self.server.as_mut().unwrap();
        let status = if killed { Some(None) } else { berth.exited().map(Some) };
        let Some(status) = status else { return };
        let starts = matches!(self.step, Step::Start | Step::Restart);
        if let Some(status) = status {
            let log = berth.log();
            assert!(starts && status.code() == Some(1), "it ended by itself, {status}:\n{log}");
        }
        self.lived.met.extend(injector.met());
        let (berth, _) = self.server.take().unwrap();
        if killed {
            berth.ended();
        } else {
            drop(berth);
        }
        self.point = self.point.filter(|point| matches!(point.fault, Fault::Fail { .. }));
        self.start(None);
        self.check_mounts(false);
        self.check_data();
    }
}
