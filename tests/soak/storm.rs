//! Storms: servers die in every way while everybody lives, and are started again.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::dice::Dice;
use crate::facts::Fact;
use crate::server::{Server, configure, until};
use crate::site;
use crate::support::Host;
use crate::tenant::Town;
use crate::town::Soak;

/// Storms for about as long as `load`, each followed by rest and an audit.
pub fn rage(soak: &mut Soak, load: Duration) {
    let one = (load / 8).clamp(Duration::from_secs(5), Duration::from_secs(30));
    let until = soak.loaded + load;
    while soak.loaded < until {
        soak.live(|host, town, dice, stop| {
            storm(host, town, dice, &|began| stop() || began >= one);
        });
        configure(&soak.host, &site::whole(&soak.host));
        let mut server = Server::spawn(&soak.host);
        server.wait_ready(&soak.calls.runtime);
        soak.rest(&server);
        if soak.dice.chance(50) { server.kill() } else { server.stop() }
    }
}

/// One server after another, until it is over.
fn storm(host: &Host, town: &Town, dice: &mut Dice, is_over: &dyn Fn(Duration) -> bool) {
    let began = Instant::now();
    while !is_over(began.elapsed()) {
        configure(host, &site::other(host, dice));
        let server = Server::spawn(host);
        // Some do not live to be ready.
        let most = if dice.chance(25) { 400 } else { 6000 };
        let life = Duration::from_millis(dice.roll(most));
        live(host, town, dice, &server, &|lived| lived >= life || is_over(began.elapsed()));
        // Most end as in a power cut.
        if town.facts.of(Fact::Kills) <= 2 * town.facts.of(Fact::Terminations) {
            server.kill();
            town.facts.count(Fact::Kills);
        } else {
            server.stop();
            town.facts.count(Fact::Terminations);
        }
    }
}

/// A server's life, in which its configuration changes now and then.
pub fn live(
    host: &Host,
    town: &Town,
    dice: &mut Dice,
    server: &Server,
    is_over: &dyn Fn(Duration) -> bool,
) {
    let began = Instant::now();
    while !is_over(began.elapsed()) {
        let pause = began.elapsed() + Duration::from_millis(200 + dice.roll(2500));
        until(|| is_over(began.elapsed()) || began.elapsed() >= pause);
        let text = match dice.roll(10) {
            0 => site::BROKEN.to_owned(),
            1..5 => site::whole(host),
            _ => site::other(host, dice),
        };
        configure(host, &text);
        town.facts.count(Fact::Reloads);
        // Without the signal it is seen within some seconds.
        if dice.chance(70) {
            server.signal(Signal::HUP);
        }
    }
}
