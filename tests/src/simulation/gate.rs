//! The gate at which each I/O waits for its turn, and the faults that it may meet with.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot};
use twofold_nexmark::Rng;

/// What can go wrong with one I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It fails, and nothing happened.
    Error,
    /// It fails after a long time, and may or may not have happened.
    Timeout,
    /// It happened, and fails all the same.
    LostAnswer,
    /// A new object gets the first half of its bytes; that is told, or not.
    Torn,
    /// The body of an object breaks off.
    CutBody,
    /// A listing lacks what is new, and shows what is gone.
    StaleListing,
    /// It takes long.
    Slow,
}

/// How many picks of the scheduler pass over what is slow, at most: some, or so many that all else has changed by then.
const SLOW: [u64; 3] = [5, 40, 400];

/// An I/O that waits to be let through.
#[derive(Debug)]
pub struct Parked {
    /// What it is, for the trace.
    pub what: String,
    /// For how many picks it is not to be let through.
    pub wait: u64,
    go: oneshot::Sender<()>,
}

impl Parked {
    pub fn let_through(self) {
        let _ = self.go.send(());
    }
}

/// What all I/O of the simulation goes through.
#[derive(Debug)]
pub struct Gate {
    rng: Mutex<Rng>,
    parked: mpsc::UnboundedSender<Parked>,
    /// How many of a thousand I/Os fail.
    rate: AtomicU64,
    open: AtomicBool,
    now: AtomicI64,
    injected: Mutex<BTreeMap<(&'static str, Fault), u64>>,
}

impl Gate {
    /// A closed gate, and where those who wait at it come out.
    pub fn new(rng: Rng) -> (Self, mpsc::UnboundedReceiver<Parked>) {
        let (parked, waiting) = mpsc::unbounded_channel();
        let gate = Self {
            rng: Mutex::new(rng),
            parked,
            rate: AtomicU64::new(0),
            open: AtomicBool::new(false),
            now: AtomicI64::new(1_700_000_000_000_000_000),
            injected: Mutex::default(),
        };
        (gate, waiting)
    }

    /// Sets how many of a thousand I/Os fail.
    pub fn set_rate(&self, rate: u64) {
        self.rate.store(rate, Ordering::SeqCst);
    }

    /// From now on nothing fails, and nobody waits.
    pub fn open(&self) {
        self.set_rate(0);
        self.open.store(true, Ordering::SeqCst);
    }

    /// The time of the simulation, in nanoseconds since the epoch.
    pub fn now(&self) -> i64 {
        self.now.load(Ordering::SeqCst)
    }

    /// Lets a second pass.
    pub fn tick(&self) {
        self.now.fetch_add(1_000_000_000, Ordering::SeqCst);
    }

    /// Waits for its turn, and then says which of the `possible` faults the I/O meets with.
    pub async fn enter(&self, io: &'static str, on: &str, possible: &[Fault]) -> Option<Fault> {
        let fault = self.draw(possible);
        let wait = match fault {
            Some(Fault::Slow | Fault::Timeout) => {
                let mut rng = self.rng.lock().unwrap();
                let most = rng.pick(&SLOW);
                1 + rng.below(most)
            }
            _ => 0,
        };
        if fault == Some(Fault::Slow) {
            self.count(io, Fault::Slow);
        }
        let fault = fault.filter(|fault| *fault != Fault::Slow);
        let told = fault.map(|fault| format!(": {fault:?}")).unwrap_or_default();
        self.pass(format!("{io} {on}{told}"), wait).await;
        fault
    }

    /// Waits for its turn to hear that a write is done: who is killed here has written, and does not know.
    pub async fn leave(&self, io: &'static str, on: &str) {
        self.pass(format!("{io} {on} is done"), 0).await;
    }

    /// Notes that a fault came to pass.
    pub fn count(&self, io: &'static str, fault: Fault) {
        *self.injected.lock().unwrap().entry((io, fault)).or_default() += 1;
    }

    /// How often each fault came to pass.
    pub fn injected(&self) -> BTreeMap<(&'static str, Fault), u64> {
        self.injected.lock().unwrap().clone()
    }

    /// True half of the times.
    pub fn coin(&self) -> bool {
        self.rng.lock().unwrap().once_in(2)
    }

    /// One of `0..bound`.
    pub fn below(&self, bound: u64) -> u64 {
        self.rng.lock().unwrap().below(bound)
    }

    async fn pass(&self, what: String, wait: u64) {
        if self.open.load(Ordering::SeqCst) {
            return;
        }
        let (go, turn) = oneshot::channel();
        let _ = self.parked.send(Parked { what, wait, go });
        if turn.await.is_err() {
            // Its owner was killed.
            std::future::pending::<()>().await;
        }
    }

    fn draw(&self, possible: &[Fault]) -> Option<Fault> {
        let mut rng = self.rng.lock().unwrap();
        (rng.below(1000) < self.rate.load(Ordering::SeqCst)).then(|| rng.pick(possible))
    }
}
