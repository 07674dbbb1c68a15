//! Whose turn it is: one pick after the other, all drawn from the seed.

use super::actors::{Actor, Op};
use super::gate::{Fault, Parked};
use super::world::{Site, Tally, World};
use futures::FutureExt;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use twofold_nexmark::Rng;

/// How long an actor may compute between two I/Os, in real time.
const PATIENCE: Duration = Duration::from_secs(120);
/// Whether the collector waits for those who write, and they for it: a file may be written again between the collector's
/// last look at it and its deletion.
const COLLECTOR_ALONE: bool = false;
/// How much of the trace is shown when a run fails.
const SHOWN: usize = 120;

/// How likely things are: each seed draws its own, so that some runs have many faults, some none, some hardly a batch.
#[derive(Debug)]
struct Swarm {
    /// Of a thousand I/Os, how many fail.
    rate: u64,
    /// An actor is chosen as often as it stands here.
    actors: Vec<Actor>,
    /// Once in how many picks somebody is killed.
    kill: u64,
    /// Once in how many picks somebody begins, rather than goes on.
    begin: u64,
    /// How many I/Os somebody does in a row, at most.
    burst: u64,
}

impl Swarm {
    fn draw(rng: &mut Rng) -> Self {
        let weight = |rng: &mut Rng| rng.pick(&[1, 1, 2, 4]);
        let mut actors: Vec<Actor> = Actor::ALL.iter().flat_map(|actor| vec![*actor; weight(rng)]).collect();
        actors.extend([Actor::Engine, Actor::Engine, Actor::Engine, Actor::Query(0), Actor::Query(1)]);
        let (rate, kill) = (rng.pick(&[0, 20, 60, 150]), rng.pick(&[200, 400, 1000]));
        let (begin, burst) = (rng.pick(&[3, 6, 12]), rng.pick(&[1, 6, 12]));
        Self { rate, actors, kill, begin, burst }
    }
}

/// What a run came to.
#[derive(Debug, PartialEq)]
pub struct Report {
    pub trace: Vec<String>,
    pub tally: Tally,
    pub faults: BTreeMap<(&'static str, Fault), u64>,
}

/// Runs one seed.
pub async fn run(site: &Arc<Site>, seed: u64, picks: u64) -> Report {
    let mut world = World::new(site, seed);
    let swarm = Swarm::draw(&mut world.rng);
    let simulation = async {
        world.gate.set_rate(swarm.rate);
        for _ in 0..picks {
            world.pick(&swarm).await;
        }
        world.end().await;
    };
    if let Err(panic) = AssertUnwindSafe(simulation).catch_unwind().await {
        let trace = &world.trace[world.trace.len().saturating_sub(SHOWN)..];
        eprintln!("{}\nseed {seed} fails; again with TWOFOLD_SEED={seed} ({swarm:?})", trace.join("\n"));
        std::panic::resume_unwind(panic);
    }
    Report { tally: world.tally, faults: world.gate.injected(), trace: world.trace }
}

impl World {
    async fn pick(&mut self, swarm: &Swarm) {
        self.gate.tick();
        self.tally.picks += 1;
        for parked in self.ops.iter_mut().flat_map(|op| &mut op.parked) {
            parked.wait = parked.wait.saturating_sub(1);
        }
        if self.rng.once_in(swarm.kill) {
            return self.kill();
        }
        if self.rng.once_in(60) {
            // Now and then all is well, and now and then hardly anything is.
            let rate = self.rng.pick(&[0, swarm.rate, swarm.rate, 600.min(swarm.rate * 10)]);
            self.trace.push(format!("{rate} of 1000 fail"));
            self.gate.set_rate(rate);
        }
        let ready: Vec<usize> = (0..self.ops.len()).filter(|i| self.ops[*i].is_ready()).collect();
        if ready.is_empty() || self.rng.once_in(swarm.begin) {
            let idle: Vec<Actor> = swarm.actors.iter().copied().filter(|a| self.may_begin(*a)).collect();
            if idle.is_empty() {
                return;
            }
            let actor = self.rng.pick(&idle);
            if let Some(op) = self.begin(actor) {
                self.trace.push(format!("{actor:?} begins: {}", op.what));
                self.ops.push(op);
                self.advance(self.ops.len() - 1).await;
            }
        } else {
            // Without a node nothing much happens: who opens one comes first, mostly.
            let opener = ready.iter().find(|i| self.ops[**i].actor == Actor::Opener).copied();
            let index = opener.filter(|_| !self.rng.once_in(3)).unwrap_or_else(|| self.rng.pick(&ready));
            for _ in 0..1 + self.rng.below(swarm.burst) {
                if self.ops[index].is_ready() && self.advance(index).await {
                    break;
                }
            }
        }
    }

    /// Whether an actor has nothing to do yet, and need not wait for another.
    fn may_begin(&self, actor: Actor) -> bool {
        let excludes = |a: Actor, b: Actor| COLLECTOR_ALONE && a == Actor::Collector && b.writes();
        !self.ops.iter().any(|op| op.actor == actor || excludes(actor, op.actor) || excludes(op.actor, actor))
    }

    /// Lets an op go on until it stands at its next I/O, or is over: whether it is.
    async fn advance(&mut self, index: usize) -> bool {
        let (ops, waiting) = (&mut self.ops, &mut self.waiting);
        let op = &mut ops[index];
        if let Some(parked) = op.parked.take() {
            self.trace.push(format!("{:?}: {}", op.actor, parked.what));
            parked.let_through();
        }
        let ended = tokio::time::timeout(PATIENCE, async {
            loop {
                tokio::select! {
                    biased;
                    done = &mut op.future => return Some(done),
                    Some(parked) = waiting.recv() => match op.reads_ahead(&parked) {
                        true => parked.let_through(),
                        false => {
                            op.parked = Some(parked);
                            return None;
                        }
                    }
                }
            }
        });
        let ended = ended.await.unwrap_or_else(|_| panic!("{:?} stands still: {}", op.actor, op.what));
        let Some(done) = ended else { return false };
        // What it still wanted to read when it failed.
        while self.waiting.try_recv().is_ok() {}
        let op = self.ops.swap_remove(index);
        self.trace.push(format!("{:?} is done: {}", op.actor, op.what));
        self.over(&op, done).await;
        true
    }

    /// Kills the node, which may lose its states by it, or a batch run.
    fn kill(&mut self) {
        self.tally.kills += 1;
        if self.rng.once_in(3) {
            self.trace.push("batch runs are killed".into());
            return self.ops.retain(|op| !matches!(op.actor, Actor::Batch(_)));
        }
        self.ops.retain(|op| !op.actor.is_of_node());
        self.node = None;
        let lost = self.rng.once_in(3);
        if lost {
            let _ = std::fs::remove_file(self.state_path());
        }
        self.trace.push(format!("the node is killed; its states are lost: {lost}"));
    }
}

impl Op {
    fn is_ready(&self) -> bool {
        self.parked.as_ref().is_none_or(|parked| parked.wait == 0)
    }

    /// A query reads some segments at once, and hashes each in a thread: how long that takes must not matter, so nobody
    /// comes between. All else does one I/O at a time.
    fn reads_ahead(&self, parked: &Parked) -> bool {
        matches!(self.actor, Actor::Query(_))
            && parked.what.starts_with("get archive/")
            && parked.what.contains(".parquet")
    }
}
