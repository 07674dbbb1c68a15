//! Stopping: the first signal asks, the second one does not.
//!
//! SIGINT or SIGTERM flips one switch, which every loop watches; each finishes what it is at, commits, and returns. A
//! second signal ends the process at once, and so does [`DEADLINE`], which is safe too: what was acknowledged is
//! durable.

use anyhow::{Context, Result};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long the process may take to finish what it is at: a client that stalls must not hold it up for ever.
const DEADLINE: Duration = Duration::from_secs(10);
/// The exit codes of a process that did not wait for all.
const SIGNALLED_TWICE: i32 = 130;
const LATE: i32 = 1;

/// What loops watch.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

/// What flips the switch. Dropped, it is flipped as well.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

impl Shutdown {
    /// A switch, and what flips it.
    pub fn new() -> (Stopper, Shutdown) {
        let (sender, receiver) = watch::channel(false);
        (Stopper(sender), Shutdown(receiver))
    }

    /// A switch that the process's signals flip.
    ///
    /// # Errors
    /// If the operating system gives no signals.
    pub fn on_signals() -> Result<Shutdown> {
        let (stopper, shutdown) = Shutdown::new();
        let mut signals = Signals::new().context("waiting for signals")?;
        tokio::spawn(async move {
            signals.next().await;
            tracing::info!("stopping");
            stopper.stop();
            match timeout(DEADLINE, signals.next()).await {
                Ok(()) => std::process::exit(SIGNALLED_TWICE),
                Err(_) => {
                    tracing::error!(
                        seconds = DEADLINE.as_secs(),
                        "not all could be finished in time: ending anyway"
                    );
                    std::process::exit(LATE);
                }
            }
        });
        Ok(shutdown)
    }

    /// Waits until the switch is flipped.
    pub async fn requested(&self) {
        // An error means that the stopper is gone, and that is a stop.
        let _ = self.0.clone().wait_for(|stop| *stop).await;
    }

    /// The switch, as the layers take it.
    pub fn receiver(&self) -> watch::Receiver<bool> {
        self.0.clone()
    }
}

impl Stopper {
    /// Flips the switch.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_reaches_everybody_who_waits_and_who_waits_later() {
        let (stopper, shutdown) = Shutdown::new();
        let waiting = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.requested().await }
        });
        stopper.stop();
        waiting.await.unwrap();
        shutdown.requested().await;
        assert!(*shutdown.receiver().borrow());
    }

    #[tokio::test]
    async fn a_lost_stopper_is_a_stop() {
        let (stopper, shutdown) = Shutdown::new();
        drop(stopper);
        shutdown.requested().await;
    }
}
