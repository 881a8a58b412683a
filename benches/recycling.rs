//! From the deletion of a claim to the same volume's offer: an empty volume, and one with a file in it.

use std::fs;
use std::time::Instant;

use crate::discovery::until_offered;
use crate::report::Report;
use crate::samples::{HEADS, Samples};
use crate::site::Site;
use crate::support::{Berth, MIB};

const TIMES: usize = 40;

pub fn run(report: &mut Report) {
    let mut heads = vec!["deletion of a claim → its volume is offered"];
    heads.extend(HEADS);
    report.table(&heads);
    let site = Site::new();
    site.host.tmpfs("probe", "new", MIB);
    let berth = Berth::start(&site.host, &site.config());
    until_offered(&berth, Instant::now(), true);
    for (what, file) in [("empty", false), ("one file", true)] {
        let mut samples = Samples::default();
        for number in 0..TIMES {
            let name = format!("pvc-{what}-{number}");
            let id = berth.create(&name, "probe", 1).unwrap().volume_id;
            if file {
                let target = berth.publish(&site.host, &id).unwrap();
                fs::write(target.join("file"), "a tenant's").unwrap();
                berth.unpublish(&site.host, &id).unwrap();
            }
            let begun = Instant::now();
            berth.delete(&id).unwrap();
            samples.add(until_offered(&berth, begun, true));
        }
        report.row(&[&what, &samples]);
    }
    report.end();
}
