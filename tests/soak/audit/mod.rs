//! The auditor: whether the host, the inventory and what tenants were answered say the same.
//!
//! It knows no type and no function of the product. It reads the inventory as JSON from `berth volumes`, as a person would,
//! the mount tables with a parser of its own, and the disks and directories themselves.

mod contents;
mod inventory;
mod leftovers;
mod table;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::site::{Kind, Site};
use crate::tenant::{Is, TARGETS, Tenant, staging, target};

/// What is to be so.
pub struct Expected<'a> {
    /// The host's directory.
    pub host: PathBuf,
    pub sites: Vec<&'a Site>,
    /// Each of them certain of what it has.
    pub tenants: Vec<&'a Tenant>,
    /// The server's process.
    pub server: u32,
}

/// One tenancy that somebody has, with all that is known of it.
struct Tenancy<'a> {
    tenant: &'a Tenant,
    id: &'a str,
    site: &'a Site,
}

/// What it remembers from one audit to the next.
pub struct Auditor {
    /// The mounts that were there before anything was made.
    foreign: Vec<PathBuf>,
    /// The latest tenancy that each volume was seen in.
    tenancies: BTreeMap<String, u64>,
}

impl Auditor {
    /// One who knows the mounts outside `host`.
    pub fn new(host: &Path) -> Self {
        Self { foreign: outside(host), tenancies: BTreeMap::new() }
    }

    /// What differs now in records, mounts and leftovers. Some of it may only not have come about yet.
    pub fn differences(&mut self, expected: &Expected<'_>) -> Vec<String> {
        let volumes = match volumes(&expected.host) {
            Ok(volumes) => volumes,
            Err(why) => return vec![why],
        };
        let mut found = Vec::new();
        let tenancies = tenancies(expected, &volumes, &mut found);
        inventory::check(expected, &tenancies, &volumes, &mut found);
        self.check_numbers(&volumes, &mut found);
        self.check_mounts(expected, &tenancies, &mut found);
        leftovers::check(expected, &mut found);
        found
    }

    /// What differs in what is on the disks and in the directories, which are read whole.
    pub fn contents(expected: &Expected<'_>) -> Vec<String> {
        let mut found = Vec::new();
        let volumes = match volumes(&expected.host) {
            Ok(volumes) => volumes,
            Err(why) => return vec![why],
        };
        let tenancies = tenancies(expected, &volumes, &mut found);
        let claimed: Vec<_> = tenancies.iter().map(|one| &one.site.path).collect();
        for one in &tenancies {
            found.extend(contents::of_tenant(&expected.host, one));
        }
        for site in expected.sites.iter().filter(|site| !claimed.contains(&&site.path)) {
            found.extend(contents::of_free(site));
        }
        found
    }

    /// Tenancies only grow.
    fn check_numbers(&mut self, volumes: &[Value], found: &mut Vec<String>) {
        for volume in volumes {
            let name = volume["name"].as_str().unwrap().to_owned();
            let number = volume["spec"]["tenancy"].as_u64().unwrap();
            let before = self.tenancies.insert(name.clone(), number).unwrap_or(0);
            if number < before {
                found.push(format!("the tenancy of {name} went from {before} back to {number}"));
            }
        }
    }

    /// Every mount is the administrator's or one tenancy's, and the other way round.
    fn check_mounts(
        &self,
        expected: &Expected<'_>,
        tenancies: &[Tenancy<'_>],
        found: &mut Vec<String>,
    ) {
        let mounted = [Kind::Tmpfs, Kind::Bind, Kind::Ext4];
        let own = expected.sites.iter().filter(|site| mounted.contains(&site.kind));
        let mut due: Vec<PathBuf> = own.map(|site| site.path.clone()).collect();
        due.push(expected.host.clone());
        for one in tenancies {
            for place in one.mounts(&expected.host) {
                found.extend(one.shows_something_else(&place));
                due.push(place);
            }
        }
        due.sort();
        let mut there: Vec<_> = table::points(Path::new("/proc/thread-self")).unwrap();
        there.retain(|point| point.starts_with(&expected.host));
        there.sort();
        if there != due {
            let more = surplus(&there, &due);
            let less = surplus(&due, &there);
            found.push(format!("mounted and nobody's: {more:?}; not mounted: {less:?}"));
        }
        if outside(&expected.host) != self.foreign {
            found.push("mounts outside the host's directory have changed".into());
        }
    }
}

impl Tenancy<'_> {
    /// Where it is mounted.
    fn mounts(&self, host: &Path) -> Vec<PathBuf> {
        let kubelet = host.join("kubelet");
        let targets = (0..TARGETS).filter(|number| self.tenant.targets[*number] == Is::Yes);
        let targets = targets.map(|number| target(&kubelet, self.id, number));
        let staged = self.tenant.kind == Kind::Device && self.tenant.staged == Is::Yes;
        targets.chain(staged.then(|| staging(&kubelet, self.id))).collect()
    }

    /// What is wrong with what `place` shows: it has to be this very volume.
    fn shows_something_else(&self, place: &Path) -> Option<String> {
        let facts = |path: &Path| std::fs::metadata(path).map_err(|error| error.to_string());
        let same = |place: &std::fs::Metadata| match self.site.kind {
            Kind::Directory | Kind::Bind | Kind::Link => facts(&self.site.source)
                .map(|own| (own.dev(), own.ino()) == (place.dev(), place.ino())),
            Kind::Tmpfs | Kind::Ext4 => facts(&self.site.path)
                .map(|own| (own.dev(), own.ino()) == (place.dev(), place.ino())),
            Kind::Raw => facts(&self.site.source).map(|own| own.rdev() == place.rdev()),
            Kind::Device => facts(&self.site.source).map(|own| own.rdev() == place.dev()),
        };
        match facts(place).and_then(|place| same(&place)) {
            Ok(true) => None,
            Ok(false) => Some(format!("{} is not {}", place.display(), self.site.path.display())),
            Err(error) => Some(format!("{}: {error}", place.display())),
        }
    }
}

/// Who has what: by the names in the ids that tenants were given, and the paths that the inventory has for those.
fn tenancies<'a>(
    expected: &Expected<'a>,
    volumes: &[Value],
    found: &mut Vec<String>,
) -> Vec<Tenancy<'a>> {
    let paths: BTreeMap<_, _> = volumes
        .iter()
        .map(|volume| {
            (volume["name"].as_str().unwrap(), volume["status"]["path"].as_str().unwrap())
        })
        .collect();
    let mut tenancies = Vec::new();
    for tenant in &expected.tenants {
        let Some(id) = tenant.id.as_deref() else { continue };
        let path = paths.get(id.rsplit_once('@').unwrap().0);
        let site = path.and_then(|path| expected.sites.iter().find(|s| s.path == Path::new(path)));
        match site {
            Some(site) => tenancies.push(Tenancy { tenant, id, site }),
            None => found.push(format!("{tenant:?} has a volume that is not in the inventory")),
        }
    }
    tenancies
}

/// The inventory, as a person sees it.
fn volumes(host: &Path) -> Result<Vec<Value>, String> {
    let endpoint = format!("unix://{}", host.join("run/csi.sock").display());
    let output = Command::new(env!("CARGO_BIN_EXE_berth"))
        .args(["volumes", "-o", "json", "--endpoint", &endpoint])
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

/// The mount points of this namespace that are not beneath the host's directory.
fn outside(host: &Path) -> Vec<PathBuf> {
    let mut points = table::points(Path::new("/proc/thread-self")).unwrap();
    points.retain(|point| !point.starts_with(host));
    points
}

/// What there is more of in the one list than in the other.
fn surplus<'a>(of: &'a [PathBuf], without: &[PathBuf]) -> Vec<&'a PathBuf> {
    let mut left: Vec<_> = without.iter().collect();
    let is_left = |one: &&PathBuf| match left.iter().position(|other| other == one) {
        Some(position) => {
            left.remove(position);
            false
        }
        None => true,
    };
    of.iter().filter(is_left).collect()
}
