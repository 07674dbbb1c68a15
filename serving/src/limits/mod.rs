//! What queries may take: time, memory, rows, and turns.
//!
//! ```text
//! admit     a turn, waiting for it if need be, or Busy               -> Permit, which is given back when dropped
//! context   what the plan runs in: a share of the process's memory of its own
//! collect   its rows, as many as an answer may have
//! stream    the same as they come, in time
//! within    all of it in time
//! ```
//!
//! Whoever stops waiting for an answer (a client that has gone, a time that is over) drops the future that makes it:
//! that stops the query where it next waits or has done a batch, and gives back its turn and its memory at once.
//!
//! Counted is what operators and the rows of the answer take. Not counted: what a scalar function makes of one batch,
//! states that are cached, and the answer while it is written out.

mod pause;
mod pool;
mod statement;

use crate::access::Access;
use datafusion::arrow::array::RecordBatch;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::stream::try_unfold;
use futures::{Stream, StreamExt};
use pause::with_pauses;
use pool::{Bound, BoundedPool};
use std::collections::HashMap;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};
use twofold_common::{Error, LimitsConfig, OF_LIMITS, Result};

/// What queries of one process may take.
#[derive(Debug)]
pub struct Limits {
    config: Option<LimitsConfig>,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    tokens: Mutex<HashMap<String, Weak<Token>>>,
    reserved: Arc<Bound>,
}

/// What the queries of one token take.
#[derive(Debug)]
struct Token {
    queries: Arc<Semaphore>,
    memory: Arc<Bound>,
}

/// When a query is to be through, and after what time; never, if there is none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Option<(Instant, Duration)>);

/// A query's turn, and what it may take.
#[derive(Debug)]
pub struct Permit {
    /// When its time is over.
    deadline: Deadline,
    _turn: OwnedSemaphorePermit,
    token: Option<(OwnedSemaphorePermit, Arc<Token>)>,
    memory: Arc<Bound>,
    all: Arc<Bound>,
    max_rows: u64,
}

impl Default for Limits {
    /// No limits.
    fn default() -> Self {
        Self::of(None)
    }
}

impl Limits {
    /// Those of a project.
    pub fn new(config: &LimitsConfig) -> Self {
        Self::of(Some(config.clone()))
    }

    fn of(config: Option<LimitsConfig>) -> Self {
        let turns = config.as_ref().map_or(Semaphore::MAX_PERMITS, |c| c.queries.min(Semaphore::MAX_PERMITS));
        Self {
            turns: Arc::new(Semaphore::new(turns)),
            waiting: AtomicUsize::new(0),
            tokens: Mutex::default(),
            reserved: Bound::none(),
            config,
        }
    }

    /// Takes a turn for a query of `access`, waiting for it if all are taken.
    ///
    /// # Errors
    /// `Busy` if too many wait already, or too many of the same token.
    pub async fn admit(&self, access: &Access) -> Result<Permit> {
        let timeout = self.config.as_ref().map(|config| config.query_timeout);
        let deadline = Deadline(timeout.and_then(|time| Some((Instant::now().checked_add(time)?, time))));
        let token =
            access.name().and_then(|name| Some(self.token(name, self.config.as_ref()?))).transpose()?;
        let turn = match Arc::clone(&self.turns).try_acquire_owned() {
            Ok(turn) => turn,
            Err(_) => self.wait().await?,
        };
        let config = self.config.as_ref();
        Ok(Permit {
            deadline,
            _turn: turn,
            token,
            memory: config
                .map_or_else(Bound::none, |c| Bound::new(c.query_memory, "query_memory", "a query")),
            all: Arc::clone(&self.reserved),
            max_rows: config.map_or(u64::MAX, |c| c.max_rows),
        })
    }

    /// Looks whether a statement may be planned: that cannot be stopped, and must not go deeper than the stack.
    ///
    /// # Errors
    /// `Invalid` if it is too deep.
    pub fn check_statement(&self, sql: &str) -> Result<()> {
        statement::check(sql)
    }

    /// Does `work` in the time that a query has.
    ///
    /// # Errors
    /// `Unavailable` if it takes longer; those of `work`.
    pub async fn within<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(config) = &self.config else { return work.await };
        timeout(config.query_timeout, work).await.unwrap_or_else(|_| Err(stopped(config.query_timeout)))
    }

    /// How many queries run.
    pub fn running(&self) -> usize {
        let all =
            self.config.as_ref().map_or(Semaphore::MAX_PERMITS, |c| c.queries.min(Semaphore::MAX_PERMITS));
        all.saturating_sub(self.turns.available_permits())
    }

    /// How many queries wait for their turn.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many bytes the queries have reserved.
    pub fn reserved(&self) -> usize {
        self.reserved.used()
    }

    async fn wait(&self) -> Result<OwnedSemaphorePermit> {
        let most = self.config.as_ref().map_or(usize::MAX, |c| c.queries_waiting);
        // Counted until it has a turn, or stops waiting.
        let _place = Place::take(&self.waiting, most).ok_or_else(|| {
            Error::Busy(format!(
                "{} queries run and {most} more wait: try again in a moment, or raise `queries` {OF_LIMITS}",
                self.running()
            ))
        })?;
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        turn.map_err(|_| Error::Internal("the turns of queries are gone".into()))
    }

    /// A place among the queries of a token.
    fn token(&self, name: &str, config: &LimitsConfig) -> Result<(OwnedSemaphorePermit, Arc<Token>)> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tokens.get(name).and_then(Weak::upgrade);
        let token = known.unwrap_or_else(|| {
            tokens.retain(|_, token| token.strong_count() > 0);
            let token = Arc::new(Token {
                queries: Arc::new(Semaphore::new(config.token_queries.min(Semaphore::MAX_PERMITS))),
                memory: Bound::new(config.token_memory, "token_memory", "the queries of one token together"),
            });
            tokens.insert(name.to_string(), Arc::downgrade(&token));
            token
        });
        let place = Arc::clone(&token.queries).try_acquire_owned().map_err(|_| {
            Error::Busy(format!(
                "{} queries of the token {name} are being answered: wait for one of them, or raise `token_queries` \
                 {OF_LIMITS}",
                config.token_queries
            ))
        })?;
        Ok((place, token))
    }
}

/// One who waits.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        let more = |n| if n < most { Some(n + 1) } else { None };
        waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Permit {
    /// What a plan runs in: `context`, with this query's share of its memory.
    ///
    /// # Errors
    /// `Internal` if the engine makes none.
    pub fn context(&self, context: Arc<TaskContext>) -> Result<Arc<TaskContext>> {
        let runtime = context.runtime_env();
        let bounds =
            [Some(&self.memory), self.token.as_ref().map(|(_, token)| &token.memory), Some(&self.all)];
        let bounds = bounds.into_iter().flatten().cloned().collect();
        let pool = Arc::new(BoundedPool::new(Arc::clone(&runtime.memory_pool), bounds));
        let runtime = RuntimeEnvBuilder::from_runtime_env(&runtime).with_memory_pool(pool).build()?;
        let shared = |_| Error::Internal("the context of a query is another one's too".into());
        let context = Arc::try_unwrap(context).map_err(shared)?;
        Ok(Arc::new(context.with_runtime(Arc::new(runtime))))
    }

    /// The rows of a plan, which are held against the query's memory while they come.
    ///
    /// # Errors
    /// `Invalid` if they are too many; those of the plan.
    pub async fn collect(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let pool: &Arc<dyn MemoryPool> = context.memory_pool();
        let held = MemoryConsumer::new("the rows of the answer").register(pool);
        let mut stream = execute_stream(with_pauses(plan)?, Arc::clone(&context))?;
        let (mut batches, mut rows) = (Vec::new(), 0);
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            rows += batch.num_rows() as u64;
            self.check_rows(rows)?;
            held.try_grow(batch.get_array_memory_size())?;
            batches.push(batch);
        }
        Ok(batches)
    }

    /// The rows of a plan as they come. The turn is kept until they end, or nobody wants them any more; and they end when
    /// the time of the query is over, however fast they are taken.
    ///
    /// # Errors
    /// Those of the plan. What goes wrong later, the stream tells, and ends.
    pub fn stream(
        self,
        plan: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
    ) -> Result<impl Stream<Item = Result<RecordBatch>> + Send + 'static> {
        let batches = execute_stream(with_pauses(plan)?, context)?;
        Ok(try_unfold((batches, self, 0), async |(mut batches, permit, rows)| {
            let next = tokio::select! {
                next = batches.next() => next,
                e = permit.deadline.passed() => return Err(e),
            };
            let Some(batch) = next.transpose()? else { return Ok(None) };
            let rows = rows + batch.num_rows() as u64;
            permit.check_rows(rows)?;
            Ok(Some((batch, (batches, permit, rows))))
        }))
    }

    /// When its time is over.
    pub(crate) fn deadline(&self) -> Deadline {
        self.deadline
    }

    fn check_rows(&self, rows: u64) -> Result<()> {
        if rows <= self.max_rows {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "the answer has more than {} rows: ask for fewer with WHERE or LIMIT, or raise `max_rows` {OF_LIMITS}",
            self.max_rows
        )))
    }
}

impl Deadline {
    /// Waits until it has passed: what is to be said then.
    pub(crate) async fn passed(self) -> Error {
        match self.0 {
            Some((at, time)) => {
                sleep_until(at).await;
                stopped(time)
            }
            None => pending().await,
        }
    }
}

fn stopped(after: Duration) -> Error {
    Error::Unavailable(format!(
        "the query was stopped after {after:?}: ask for less, or raise `query_timeout` {OF_LIMITS}"
    ))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
