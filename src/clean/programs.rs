//! Which program of the administrator's wipes a volume.
//!
//! In Kubernetes the order to wipe is part of an object, which whoever may write `LocalVolume`s can change; the agent runs
//! as root. So the object says that a program wipes, and the file on the agent's own node which one: no text of the API
//! is ever run.

use std::sync::Arc;

use tokio::sync::watch;

use super::Error;
use crate::pool::Pools;
use crate::volume::{CleanMethod, CleanPolicy, LocalVolume};

/// The programs that may be run: those of these pools, or whatever is recorded.
#[derive(Debug, Clone, Default)]
pub(super) struct Programs(pub(super) Option<watch::Receiver<Arc<Pools>>>);

impl Programs {
    /// How a wipe by `policy` is carried out.
    pub(super) fn carried_out(
        &self,
        volume: &LocalVolume,
        policy: &CleanPolicy,
    ) -> Result<CleanPolicy, Error> {
        let (Some(pools), CleanMethod::Command { .. }) = (&self.0, &policy.method) else {
            return Ok(policy.clone());
        };
        let pools = pools.borrow();
        let pool = pools.get(&volume.spec.pool);
        let configured = pool.map(|pool| &pool.clean_of(&volume.status.fingerprint).method);
        match configured {
            Some(method @ CleanMethod::Command { .. }) => {
                Ok(CleanPolicy { method: method.clone(), verify: policy.verify })
            }
            _ => Err(Error::NoProgram { pool: volume.spec.pool.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::config;
    use crate::volume::fixture::released;

    fn command(program: &str, timeout: u64) -> CleanMethod {
        CleanMethod::Command { command: vec![program.to_owned()], timeout }
    }

    fn configured(clean: &str) -> Programs {
        let text = format!("pools: {{fast: {{path: /mnt, clean: {clean}}}}}");
        let pools = config::parse(&text, std::path::Path::new("pools.yaml")).unwrap();
        Programs(Some(watch::Sender::new(Arc::new(pools)).subscribe()))
    }

    #[test]
    fn the_program_of_the_nodes_own_file_is_run_whatever_an_object_says() {
        let programs = configured("{method: command, command: [/opt/wipe], timeout: 30s}");
        let edited = CleanPolicy { method: command("/bin/sh", u64::MAX), verify: true };

        let run = programs.carried_out(&released(), &edited).unwrap();

        assert_eq!(run, CleanPolicy { method: command("/opt/wipe", 30), verify: true });
    }

    #[test]
    fn no_program_is_run_where_the_nodes_own_file_has_none() {
        let edited = CleanPolicy { method: command("/bin/sh", 60), verify: false };
        let unknown = Programs(Some(watch::Sender::default().subscribe()));

        for programs in [configured("{method: delete}"), unknown] {
            let refused = programs.carried_out(&released(), &edited).unwrap_err();
            assert!(matches!(refused, Error::NoProgram { .. }), "{refused}");
        }
    }

    #[test]
    fn other_ways_to_wipe_are_carried_out_as_they_were_agreed() {
        let agreed = CleanPolicy { method: CleanMethod::Zero, verify: true };

        let run = configured("{method: delete}").carried_out(&released(), &agreed).unwrap();

        assert_eq!(run, agreed);
    }
}
