//! What the inventory says, against what tenants were answered and what the administrator made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::{Expected, Tenancy, table};
use crate::tenant::{Is, TARGETS, staging, target};

/// Notes every difference.
pub fn check(
    expected: &Expected<'_>,
    tenancies: &[Tenancy<'_>],
    volumes: &[Value],
    found: &mut Vec<String>,
) {
    check_paths(expected, volumes, found);
    check_claims(tenancies, volumes, found);
    let points = table::points(Path::new("/proc/thread-self")).unwrap();
    let points: BTreeSet<_> = points.iter().filter_map(|point| point.to_str()).collect();
    for volume in volumes {
        let path = volume["status"]["path"].as_str().unwrap();
        let held = tenancies.iter().find(|one| one.site.path == Path::new(path));
        let wrong = match held {
            Some(tenancy) => of_held(&expected.host, tenancy, volume),
            None => of_free(volume, &points),
        };
        found.extend(wrong.into_iter().map(|wrong| format!("{}: {wrong}", volume["name"])));
    }
}

/// Every volume of the administrator's is there once, and no other.
fn check_paths(expected: &Expected<'_>, volumes: &[Value], found: &mut Vec<String>) {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for volume in volumes {
        *times.entry(volume["status"]["path"].as_str().unwrap()).or_default() += 1;
    }
    for site in &expected.sites {
        let times = times.remove(site.path.to_str().unwrap()).unwrap_or(0);
        if times != 1 {
            found.push(format!("{} is in the inventory {times} times", site.path.display()));
        }
    }
    found.extend(times.keys().map(|path| format!("{path} is in the inventory and was never made")));
}

/// Every claim that was acknowledged and not deleted is there, under its id, and no other; no name is there twice.
fn check_claims(tenancies: &[Tenancy<'_>], volumes: &[Value], found: &mut Vec<String>) {
    let mut recorded = BTreeMap::new();
    for volume in volumes {
        let Some(claim) = volume["spec"]["claim"]["name"].as_str() else { continue };
        let id = format!("{}@{}", volume["name"].as_str().unwrap(), volume["spec"]["tenancy"]);
        if let Some(other) = recorded.insert(claim, id.clone()) {
            found.push(format!("claim {claim} holds {id} and {other}"));
        }
    }
    for one in tenancies.iter().filter(|one| !one.tenant.deleted) {
        let id = recorded.remove(one.tenant.name.as_str());
        if id.as_deref() != Some(one.id) {
            found.push(format!("{} was given {} and has {id:?}", one.tenant.name, one.id));
        }
    }
    found.extend(
        recorded.iter().map(|(claim, id)| format!("{id} is held by {claim}, who never was")),
    );
}

/// What is wrong with the record of a volume that a tenant has.
fn of_held(host: &Path, held: &Tenancy<'_>, volume: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    if volume["status"]["conditions"]["healthy"]["status"] != true {
        wrong.push(format!("held and not healthy: {}", volume["status"]["conditions"]["healthy"]));
    }
    let kubelet = host.join("kubelet");
    let targets = (0..TARGETS).filter(|number| held.tenant.targets[*number] == Is::Yes);
    let mut due: BTreeSet<_> =
        targets.map(|number| (target(&kubelet, held.id, number), false)).collect();
    if held.tenant.staged == Is::Yes {
        due.insert((staging(&kubelet, held.id), true));
    }
    let published = volume["status"]["published"].as_array().into_iter().flatten();
    let recorded: BTreeSet<_> = published
        .map(|place| (place["path"].as_str().unwrap().into(), place["staging"] == true))
        .collect();
    if recorded != due {
        wrong.push(format!("recorded at {recorded:?} and acknowledged at {due:?}"));
    }
    let number: u64 = held.id.rsplit_once('@').unwrap().1.parse().unwrap();
    if volume["spec"]["tenancy"] != number {
        wrong.push(format!("in tenancy {} while {} has it", volume["spec"]["tenancy"], held.id));
    }
    // Its claim has ended, and it is still mounted.
    if held.tenant.deleted && volume["status"]["cleanFor"] == volume["spec"]["tenancy"] {
        wrong.push("offered while it is mounted".into());
    }
    wrong
}

/// What keeps a volume that nobody has from being offered, or should.
fn of_free(volume: &Value, points: &BTreeSet<&str>) -> Vec<String> {
    let (spec, status) = (&volume["spec"], &volume["status"]);
    let mut wrong = Vec::new();
    let mut require = |holds: bool, what: String| {
        if !holds {
            wrong.push(what);
        }
    };
    require(spec["claim"].is_null(), format!("held by {}", spec["claim"]["name"]));
    let conditions = &status["conditions"];
    require(status["cleanFor"] == spec["tenancy"], format!("not clean: {}", conditions["clean"]));
    require(conditions["clean"]["status"] == true, format!("not clean: {}", conditions["clean"]));
    require(
        conditions["healthy"]["status"] == true,
        format!("not healthy: {}", conditions["healthy"]),
    );
    for key in ["cleaning", "published"] {
        let nothing = status[key].is_null() || status[key] == Value::Array(Vec::new());
        require(nothing, format!("free with {key} {}", status[key]));
    }
    require(spec["cordoned"] != true, "cordoned".into());
    // What is taken for the administrator's keeps no wipe waiting: it has to be so.
    for own in status["ownMounts"].as_array().into_iter().flatten() {
        let own = own.as_str().unwrap();
        require(points.contains(own), format!("{own} is recorded as a mount and is none"));
    }
    wrong
}
