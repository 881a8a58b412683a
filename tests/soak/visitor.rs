//! Volumes that are new each time: mounted, found, held once, wiped, unmounted and gone. Whatever the server keeps of them
//! grows without end.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::calls::Calls;
use crate::dice::Dice;
use crate::facts::Fact;
use crate::noise::take_away;
use crate::site::{Kind, Site, VISITORS};
use crate::support::berth::endpoint;
use crate::support::{Host, MIB};
use crate::tenant::{Tenant, Town};

/// The tenant of such volumes, and the one that there is now.
pub struct Visitor {
    pub tenant: Tenant,
    stay: Stay,
    number: u32,
    /// How many tenancies had ended when the volume came.
    ended: u32,
}

/// How far a volume is.
enum Stay {
    /// There is none.
    None,
    /// It is there.
    Here(Site),
    /// It was taken away, and the server may not know yet.
    Gone(Site),
}

impl Visitor {
    pub fn new(number: usize) -> Self {
        let tenant = Tenant::new(number, VISITORS, Kind::Tmpfs);
        Self { tenant, stay: Stay::None, number: 0, ended: 0 }
    }

    /// The volume that there is now.
    pub fn site(&self) -> Option<&Site> {
        let Stay::Here(site) = &self.stay else { return None };
        Some(site)
    }

    /// One step: of the volume's, or of its tenant's.
    pub fn live(&mut self, host: &Host, town: &Town, calls: &Calls, dice: &mut Dice) {
        match std::mem::replace(&mut self.stay, Stay::None) {
            Stay::None => {
                self.number += 1;
                let path = host.tmpfs(VISITORS, &format!("v{}", self.number), 2 * MIB);
                let source = path.clone();
                self.stay = Stay::Here(Site { kind: Kind::Tmpfs, path, source, uuid: None });
                self.ended = self.tenant.generation();
            }
            Stay::Here(site) if self.tenant.generation() > self.ended => {
                self.stay = end(host, site, dice);
            }
            Stay::Here(site) => {
                self.tenant.live(town, calls, dice);
                self.stay = Stay::Here(site);
            }
            Stay::Gone(site) => {
                self.stay = forget(host, site);
                if matches!(self.stay, Stay::None) {
                    town.facts.count(Fact::Visitors);
                }
            }
        }
    }

    /// One step towards a volume that is there or is not.
    pub fn settle(&mut self, host: &Host) -> bool {
        self.stay = match std::mem::replace(&mut self.stay, Stay::None) {
            Stay::Gone(site) => forget(host, site),
            other => other,
        };
        !matches!(self.stay, Stay::Gone(_))
    }

    /// Takes the volume away for good, once its last tenant has left.
    pub fn leave(&mut self) {
        if let Stay::Here(site) = std::mem::replace(&mut self.stay, Stay::None) {
            take_away(&site.path);
        }
    }
}

/// Takes a volume away that nobody will be given any more: cordoned first, as an administrator is told to, or at once.
fn end(host: &Host, site: Site, dice: &mut Dice) -> Stay {
    let volume = volume_at(host, &site.path);
    let Some(volume) = volume.ok().flatten().filter(is_clean) else { return Stay::Here(site) };
    let name = volume["name"].as_str().unwrap();
    if dice.chance(50) && berth(host, &["cordon", name]).is_err() {
        return Stay::Here(site);
    }
    take_away(&site.path);
    Stay::Gone(site)
}

fn is_clean(volume: &Value) -> bool {
    let (spec, status) = (&volume["spec"], &volume["status"]);
    spec["claim"].is_null() && status["cleanFor"] == spec["tenancy"]
}

/// Waits for the record of a volume that is gone to go, and has it go where that takes a person.
fn forget(host: &Host, site: Site) -> Stay {
    match volume_at(host, &site.path) {
        Ok(None) => return Stay::None,
        Ok(Some(volume)) if volume["spec"]["cordoned"] == true => {
            // Refused until it is seen to be gone.
            let _ = berth(host, &["forget", volume["name"].as_str().unwrap()]);
        }
        _ => {}
    }
    Stay::Gone(site)
}

/// The record of the volume at `path`; an error while nobody can be asked.
fn volume_at(host: &Host, path: &Path) -> Result<Option<Value>, String> {
    let volumes = berth(host, &["volumes", "-o", "json", "--wait=5", "--pool", VISITORS])?;
    let volumes: Vec<Value> = serde_json::from_slice(&volumes).unwrap();
    Ok(volumes.into_iter().find(|volume| volume["status"]["path"] == path.to_str().unwrap()))
}

/// What a person would type.
fn berth(host: &Host, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
    let output = command.args(arguments).args(["--endpoint", &endpoint(host)]).output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(output.stdout)
}
