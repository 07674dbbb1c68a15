//! Threads beside those that answer: one that folds, and some for what takes long and nobody waits for, such as merging,
//! archiving and batch runs. The latter give way to all others, so that no answer and no fold waits behind them.

use anyhow::{Context, Result};
use std::future::Future;
use std::thread;
use thread_priority::{ThreadPriority, ThreadPriorityValue};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Between 0 and 99; on Linux a niceness of 10, which has about a tenth of a processor that others want too.
const PRIORITY: u8 = 22;

/// The threads for what takes long. What still runs on them when this is dropped is given up where it next waits.
#[derive(Debug)]
pub(crate) struct Background(Option<Runtime>);

impl Background {
    /// As many threads as there are processors.
    ///
    /// # Errors
    /// If the system gives none.
    pub(crate) fn start() -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .enable_all()
            .thread_name("twofold-batch")
            .thread_stack_size(crate::STACK_BYTES)
            .on_thread_start(give_way)
            .build();
        Ok(Self(Some(runtime.context("the threads for what takes long cannot be started")?)))
    }

    /// To run something there; `None` when they are gone.
    pub(crate) fn handle(&self) -> Option<&Handle> {
        self.0.as_ref().map(Runtime::handle)
    }

    /// Runs `work` there as one of `tasks`.
    pub(crate) fn spawn(
        &self,
        tasks: &mut JoinSet<Result<()>>,
        work: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        match self.handle() {
            Some(handle) => tasks.spawn_on(work, handle),
            None => tasks.spawn(work),
        };
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Lets other threads go first from now on, where the system does so by thread.
pub(crate) fn give_way() {
    let lower = ThreadPriorityValue::try_from(PRIORITY).map(ThreadPriority::Crossplatform);
    // A system that does not let it goes on as before.
    if let Ok(lower) = lower
        && let Err(error) = lower.set_for_current()
    {
        tracing::debug!(?error, "this thread does not give way to others");
    }
}

/// Runs `work` on a thread of its own as one of `tasks`.
///
/// # Errors
/// If the system gives none.
pub(crate) fn on_own_thread(
    name: &str,
    tasks: &mut JoinSet<Result<()>>,
    work: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build().context("a thread cannot be started")?;
    let (done, ended) = oneshot::channel();
    let run = move || {
        runtime.block_on(work);
        // A commit may still be under way if the work was given up.
        runtime.shutdown_background();
        done.send(())
    };
    thread::Builder::new().name(name.to_string()).stack_size(crate::STACK_BYTES).spawn(run)?;
    tasks.spawn(async move { ended.await.context("the thread of the speed layer ended") });
    Ok(())
}
