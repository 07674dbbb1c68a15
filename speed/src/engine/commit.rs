//! Commits: what an epoch changes is seen at once, and made durable behind it.
//!
//! ```text
//! state in memory = state in the store, and then what is on its way there
//! ```
//!
//! What an epoch folds is durable already, in the log: after a crash the same events are folded again, to the same
//! states. So an answer does not wait for the commit of an epoch. While one is under way, what later epochs change
//! gathers for the next; the store takes it in the order in which it came, each epoch whole. Everything else that changes
//! states, such as sealing, keeps the loop until all of that is durable, and is seen when it is durable itself.

use super::Engine;
use super::store::{StateStore, Write};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};
use twofold_common::{Error, Result};

/// With what so many epochs have changed waiting, the next one waits as well: after a crash they are folded again.
const MOST_EPOCHS: usize = 8;

/// What is seen already and not yet durable.
#[derive(Debug, Default)]
pub(super) struct Behind {
    queue: Arc<Mutex<Queue>>,
    /// That something was taken from there, or nothing more will be.
    taken: Arc<Notify>,
    /// What takes it into the store, until there is nothing more.
    task: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Queue {
    writes: Vec<Write>,
    epochs: usize,
    /// Whether a task looks here again.
    is_served: bool,
}

impl Behind {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what an epoch changes, and lets a thread take it from here.
    async fn add(&mut self, writes: Vec<Write>, store: &Arc<StateStore>, wake: &Arc<Notify>) -> Result<()> {
        let is_served = {
            let mut queue = self.queue();
            queue.writes.extend(writes);
            queue.epochs += 1;
            std::mem::replace(&mut queue.is_served, true)
        };
        if !is_served {
            self.end().await?;
            let (queue, taken) = (Arc::clone(&self.queue), Arc::clone(&self.taken));
            let (store, wake) = (Arc::clone(store), Arc::clone(wake));
            self.task = Some(spawn_blocking(move || {
                // Whoever waits in the loop is to hear of an error at once.
                serve(&queue, &taken, &store).inspect_err(|_| wake.notify_one())
            }));
        }
        Ok(())
    }

    /// Waits until all is durable, or why it is not. Whoever gives up waiting leaves the task to the next one.
    async fn end(&mut self) -> Result<()> {
        let Some(task) = &mut self.task else { return Ok(()) };
        let ended = task.await;
        self.task = None;
        ended.map_err(|e| Error::Internal(format!("the state store's thread: {e}")))?
    }
}

/// Commits what waits, again and again, until nothing does.
fn serve(queue: &Mutex<Queue>, taken: &Notify, store: &StateStore) -> Result<()> {
    loop {
        let writes = {
            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.epochs = 0;
            queue.is_served = !queue.writes.is_empty();
            std::mem::take(&mut queue.writes)
        };
        taken.notify_one();
        if writes.is_empty() {
            return Ok(());
        }
        if let Err(e) = store.commit(&writes) {
            queue.lock().unwrap_or_else(PoisonError::into_inner).is_served = false;
            taken.notify_one();
            return Err(e);
        }
    }
}

impl Engine {
    /// Makes `writes` visible, and durable behind the caller, if the loop runs; otherwise durable first.
    pub(super) async fn commit_behind(&self, writes: Vec<Write>) -> Result<()> {
        if !self.running.load(Ordering::SeqCst) {
            return self.commit(writes).await;
        }
        if writes.is_empty() {
            return Ok(());
        }
        let mut behind = self.behind.lock().await;
        self.write().apply(writes.clone());
        let added = behind.add(writes, &self.store, &self.wake).await;
        added.inspect_err(|_| self.is_broken.store(true, Ordering::SeqCst))
    }

    /// Waits while an epoch waits for a commit, so that more events gather for the next one, which is cheaper: unless
    /// somebody waits for them, and not too many epochs wait.
    pub(super) async fn wait_behind(&self) {
        loop {
            let (epochs, taken) = {
                let behind = self.behind.lock().await;
                let queue = behind.queue();
                (if queue.is_served { queue.epochs } else { 0 }, Arc::clone(&behind.taken))
            };
            if epochs == 0 {
                return;
            }
            tokio::select! {
                () = taken.notified() => {}
                () = self.awaited.notified(), if epochs < MOST_EPOCHS => return,
            }
        }
    }

    /// Makes `writes` durable, then visible.
    pub(super) async fn commit(&self, writes: Vec<Write>) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        let writes = self.store(writes).await?;
        self.write().apply(writes);
        Ok(())
    }

    /// Makes `writes` durable, after all that is visible, and gives them back for what makes them visible.
    pub(super) async fn store(&self, writes: Vec<Write>) -> Result<Vec<Write>> {
        let mut behind = self.behind.lock().await;
        let stored = match behind.end().await {
            Ok(()) => {
                let store = Arc::clone(&self.store);
                let committed = spawn_blocking(move || store.commit(&writes).map(|()| writes)).await;
                committed.map_err(|e| Error::Internal(format!("the state store's thread: {e}"))).flatten()
            }
            Err(e) => Err(e),
        };
        stored.inspect_err(|_| self.is_broken.store(true, Ordering::SeqCst))
    }

    /// Waits until all that is visible is durable.
    pub(super) async fn flush(&self) -> Result<()> {
        let ended = self.behind.lock().await.end().await;
        ended.inspect_err(|_| self.is_broken.store(true, Ordering::SeqCst))
    }

    /// An error of what was committed behind, if there was one.
    pub(super) async fn look_behind(&self) -> Result<()> {
        let mut behind = self.behind.lock().await;
        let ended = match behind.task.as_ref().is_some_and(JoinHandle::is_finished) {
            true => behind.end().await,
            false => Ok(()),
        };
        ended.inspect_err(|_| self.is_broken.store(true, Ordering::SeqCst))
    }

    /// Gives up what is not durable yet, to go on from what is.
    pub(super) async fn forget_behind(&self) {
        let mut behind = self.behind.lock().await;
        // It was told already why not.
        let _ = behind.end().await;
        *behind = Behind::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::store_tests::{World, count};
    use crate::faults::{Faults, How};
    use std::sync::mpsc;
    use std::time::Duration;
    use tokio::sync::watch;
    use tokio::time::{sleep, timeout};
    use twofold_common::{Offset, Partition, SealedSegments};

    /// A loop that runs until it is dropped or stopped.
    struct Running(watch::Sender<bool>, JoinHandle<()>);

    impl Running {
        async fn start(engine: &Arc<Engine>) -> Self {
            let (stop, stopped) = watch::channel(false);
            let looping = Arc::clone(engine);
            let task = tokio::spawn(async move { looping.run(stopped).await });
            while !engine.running.load(Ordering::SeqCst) {
                sleep(Duration::from_millis(1)).await;
            }
            Self(stop, task)
        }

        async fn stop(self) {
            self.0.send_replace(true);
            self.1.await.unwrap();
        }
    }

    /// Keeps the disk from writing until the answer is dropped.
    fn hold(faults: &Faults) -> mpsc::Sender<()> {
        let ((holding, held), (release, released)) = (mpsc::channel(), mpsc::channel());
        let faults = faults.clone();
        std::thread::spawn(move || {
            faults.plan(|_| {
                holding.send(()).unwrap();
                released.recv().unwrap_err();
            });
        });
        held.recv().unwrap();
        release
    }

    fn folded(engine: &Engine) -> Offset {
        engine.read().folded(&("s".to_string(), Partition(0)))
    }

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn an_answer_waits_for_no_commit_of_states_until_too_much_is_behind() {
        let world = World::new().await;
        let engine = world.open_with(10, 1000).await;
        let running = Running::start(&engine).await;
        world.append(5).await;
        assert_eq!(count(&engine).await, 5);
        let held = hold(&world.faults);
        for n in 1..=4 {
            world.append(10).await;
            let counted = timeout(SOON, count(&engine)).await.expect("an answer waited for the disk");
            assert_eq!(counted, 5 + 10 * n);
        }
        for _ in 4..100 {
            world.append(10).await;
        }
        let waiting = Arc::clone(&engine);
        let waiting = tokio::spawn(async move { count(&waiting).await });
        sleep(Duration::from_millis(300)).await;
        // Eight, and what is on its way when it begins.
        assert!(folded(&engine) < Offset(200), "{}", folded(&engine));
        drop(held);
        assert_eq!(timeout(SOON, waiting).await.unwrap().unwrap(), 1005);
        running.stop().await;
        drop(engine);
        let stored = folded(world.open().await.as_ref());
        assert_eq!(stored, Offset(1005), "all is stored at the end");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn what_is_seen_is_stored_before_what_comes_after_it() {
        for _ in 0..10 {
            let world = World::new().await;
            let engine = world.open_with(10, 1000).await;
            let running = Running::start(&engine).await;
            let held = hold(&world.faults);
            for n in 1..4 {
                world.append(10).await;
                assert_eq!(count(&engine).await, 10 * n);
            }
            let sealing = Arc::clone(&engine);
            let sealed = tokio::spawn(async move { sealing.seal_all().await });
            sleep(Duration::from_millis(20)).await;
            assert!(engine.sealed("s", Partition(0), Offset(0)).is_empty(), "seen before it is stored");
            drop(held);
            timeout(SOON, sealed).await.unwrap().unwrap().unwrap();
            running.1.abort();
            let sealed = engine.sealed("s", Partition(0), Offset(0));
            assert_eq!(sealed.len(), 1);
            let _ = running.1.await;
            while Arc::strong_count(&engine.store) > 1 {
                sleep(Duration::from_millis(1)).await;
            }
            drop(engine);
            let engine = world.open().await;
            assert_eq!(engine.sealed("s", Partition(0), Offset(0)), sealed);
            assert_eq!((folded(&engine), count(&engine).await), (Offset(30), 30));
        }
    }

    /// A history in which one write or sync fails while the loop runs: whether it was reached.
    async fn with_failure(how: How, nth: u32) -> bool {
        let world = World::new().await;
        // Of few segments, whose seals would find out as well.
        let engine = world.open_with(3, 1000).await;
        let running = Running::start(&engine).await;
        world.append(5).await;
        world.faults.fail(nth, how);
        // So that something waits when it fails.
        let held = hold(&world.faults);
        for events in [6, 1, 4] {
            world.append(events).await;
            sleep(Duration::from_millis(20)).await;
        }
        drop(held);
        while folded(&engine) < Offset(16) {
            sleep(Duration::from_millis(20)).await;
        }
        engine.flush().await.ok();
        while engine.is_broken.load(Ordering::SeqCst) || folded(&engine) < Offset(16) {
            sleep(Duration::from_millis(20)).await;
        }
        let reached = world.faults.failed() > 0;
        assert_eq!(count(&engine).await, 16, "{how:?} {nth}");
        world.append(1).await;
        assert_eq!(count(&engine).await, 17, "{how:?} {nth}");
        running.stop().await;
        drop(engine);
        let engine = world.open().await;
        if reached {
            assert_eq!(folded(&engine), Offset(17), "{how:?} {nth}: stored at the end");
        }
        engine.catch_up().await.unwrap();
        assert_eq!(count(&engine).await, 17, "{how:?} {nth}, after a restart");
        reached
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn what_fails_behind_counts_nothing_twice() {
        for how in [How::Before, How::Torn, How::After] {
            let histories = (0..24).map(|nth| tokio::spawn(with_failure(how, nth)));
            let reached = futures::future::join_all(histories).await.into_iter().map(Result::unwrap);
            let reached = reached.filter(|reached| *reached).count();
            assert!(reached > 10, "{how:?}: {reached} operations failed");
        }
    }
}
