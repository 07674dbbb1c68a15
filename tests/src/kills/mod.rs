//! Real kills: the binary on real files, under load from several producers, ended by `kill -9` at random moments and by
//! aborts at every failpoint, again and again; then everything is counted.
//!
//! ```text
//! acknowledged <= answered <= sent        each event at most once, and all answers those of a plain query
//! ```
//!
//! Two processes die: the server, with ingest, speed layer, archiver and serving, and batch runs beside it. `scripts/kills`
//! does it as often as you like.

mod load;
mod restart;
mod site;

use load::Load;
use site::Site;
use std::time::Duration;
use twofold_common::Failpoint;
use twofold_nexmark::Rng;

/// How many kills, and how many more failpoints beyond the first hit of each, if nobody says.
const KILLS: u64 = 4;
/// How long a server runs before it is killed, at most.
const LIFE_MS: u64 = 1500;
/// How many times a failpoint is passed before it strikes, at most.
const PASSES: u64 = 3;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().unwrap_or_else(|_| panic!("{name}={n} is no number")))
}

fn rng() -> Rng {
    let seed = number("TWOFOLD_SEED").unwrap_or(1);
    println!("seed {seed} (TWOFOLD_SEED)");
    Rng::new(seed, 2, 0)
}

/// Servers and batch runs are killed at random moments.
#[test]
fn what_was_acknowledged_survives_kill_9() {
    let kills = number("TWOFOLD_KILLS").unwrap_or(KILLS);
    let (site, mut rng) = (Site::new(), rng());
    let load = Load::start(3);
    let (mut of_server, mut of_batch) = (0, 0);
    while of_server < kills {
        let server = site.start(&[]);
        load.send_to(&server.url);
        let sleep = |ms| std::thread::sleep(Duration::from_millis(ms));
        sleep(rng.below(LIFE_MS));
        let batch = rng.once_in(2).then(|| site.spawn_batch(rng.once_in(3), &[]));
        sleep(rng.below(LIFE_MS));
        load.send_nowhere();
        // A batch run may outlive the server, or not.
        if rng.once_in(2) {
            server.kill();
            of_batch += batch.map_or(0, |mut batch| u64::from(batch.end(rng.once_in(2))));
        } else {
            of_batch += batch.map_or(0, |mut batch| u64::from(batch.end(true)));
            server.kill();
        }
        of_server += 1;
    }
    println!("{of_server} servers and {of_batch} batch runs were killed");
    site.settle(load.stop());
}

/// At each step of append, commit, seal, publish and retire a process ends once on its first and once on a later pass.
#[test]
#[cfg(debug_assertions)]
fn what_was_acknowledged_survives_every_failpoint() {
    let (site, mut rng) = (Site::new(), rng());
    let load = Load::start(3);
    for point in Failpoint::ALL {
        let at = 1 + rng.below(PASSES);
        let armed = format!("{}:{at}", point.name());
        let env = [("TWOFOLD_FAILPOINT", armed.as_str())];
        if point == Failpoint::BatchStateWritten {
            let server = site.start(&[]);
            load.send_to(&server.url);
            load.await_more(200);
            let died = site.spawn_batch(true, &env).aborts();
            assert!(died, "{armed} is never reached");
            load.send_nowhere();
            server.kill();
        } else {
            site.dies_of(&env, &load, &armed);
        }
        println!("survived {armed}");
    }
    site.settle(load.stop());
}
