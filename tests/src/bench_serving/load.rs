//! Requests by a schedule, and how long they take.

use super::client::Connection;
use std::fmt;
use std::time::{Duration, Instant};

/// Requests at a rate, over some connections.
pub struct Load<'a> {
    pub address: &'a str,
    pub connections: u64,
    pub per_second: u64,
    pub time: Duration,
}

impl Load<'_> {
    /// Asks for the paths that `path` draws.
    pub fn run(&self, path: impl Fn(&mut Random) -> String + Sync) -> Times {
        let one = &|number: u64| {
            let mut connection = Connection::open(self.address);
            let between = Duration::from_secs_f64(self.connections as f64 / self.per_second as f64);
            let (mut times, mut random) = (Times::default(), Random(number + 1));
            let started = Instant::now() + between.mul_f64(number as f64 / self.connections as f64);
            for n in 0.. {
                let due = started + between.mul_f64(f64::from(n));
                if due > started + self.time {
                    return times;
                }
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                connection.get(&path(&mut random));
                times.add(due.elapsed());
            }
            times
        };
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..self.connections).map(|number| scope.spawn(move || one(number))).collect();
            let mut times = Times::default();
            all.into_iter().for_each(|one| times.0.extend(one.join().unwrap().0));
            times
        })
    }
}

/// How long requests took.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort();
        let at = |part: f64| {
            let index = ((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1));
            sorted.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
        };
        write!(
            f,
            "p50 {:8.3} ms   p99 {:8.3} ms   most {:8.3} ms   of {}",
            at(0.5),
            at(0.99),
            at(1.0),
            sorted.len()
        )
    }
}

/// Numbers from a seed.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
