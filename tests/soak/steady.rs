//! One life of a server under steady load: at its end it uses what it used when it had warmed up.

use std::time::Duration;

use crate::footprint::Footprint;
use crate::server::{Server, wait_for};
use crate::storm;
use crate::town::Soak;

/// Stretches of load of equal length; the first is for warming up.
const STRETCHES: u32 = 3;

/// The most threads of a server that rests: those that block are ended when they have had nothing to do for some seconds.
const THREADS: usize = 8;
/// How much more memory it may have when it ends than when it had warmed up, in percent, or in KiB where that is more. What an
/// allocator keeps depends on what ran side by side at the busiest moment: between stretches of half a minute up to 6 MiB of
/// 32 were seen. A leak grows with every call, and shows in the long form.
const MORE: u64 = 25;
const AT_LEAST: u64 = 16 << 10;

/// Steady load for as long as `load`; then everybody leaves, and the server ends.
pub fn last(soak: &mut Soak, load: Duration) {
    let mut server = Server::spawn(&soak.host);
    server.wait_ready(&soak.calls.runtime);
    let one = load / STRETCHES;
    let mut used: Vec<Footprint> = Vec::new();
    for _ in 0..STRETCHES {
        soak.live(|host, town, dice, stop| {
            storm::live(host, town, dice, &server, &|lived| stop() || lived >= one);
        });
        soak.rest(&server);
        let now = at_rest(&server, used.last());
        println!("{now}, {} volumes held", soak.held());
        used.push(now);
    }
    let most = used[0].anonymous + AT_LEAST.max(used[0].anonymous * MORE / 100);
    let last = &used[used.len() - 1];
    assert!(last.anonymous <= most, "{last}, after {} when it had warmed up", used[0]);
    soak.empty(&server);
    println!("{} when everybody has just left", Footprint::of(server.pid()));
    server.stop();
}

/// What a server uses that rests: descriptors of calls are closed, and threads that did them have ended.
fn at_rest(server: &Server, before: Option<&Footprint>) -> Footprint {
    wait_for("descriptors and threads to be what they were", || {
        let now = Footprint::of(server.pid());
        let differs = before.is_some_and(|before| before.descriptors != now.descriptors);
        if differs || now.threads > THREADS {
            return Err(format!("{now:?} after {before:?}"));
        }
        Ok(now)
    })
}
