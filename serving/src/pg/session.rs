//! What a connection remembers: its settings, its open cursors, and the names of its prepared statements.

use super::encode::Rows;
use super::failure::{Failure, state};
use super::settings::Settings;
use crate::limits::Deadline;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::Result as EngineResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion_postgres::pgwire::api::results::{FieldInfo, QueryResponse};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::data::DataRow;
use futures::{Stream, StreamExt, stream};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, mpsc};
use tokio::task::JoinSet;
use twofold_common::Error;

/// How many statements a connection may have prepared at once, and how many cursors open.
const MOST_STATEMENTS: usize = 1_000;
const MOST_CURSORS: usize = 100;

/// One connection's.
#[derive(Debug, Default)]
pub(super) struct Session {
    settings: Mutex<Settings>,
    cursors: Mutex<BTreeMap<String, Cursor>>,
    statements: Mutex<BTreeSet<String>>,
}

/// An answer that is taken piece by piece; it is of the moment at which it was declared.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    pub(super) schema: SchemaRef,
    hold: bool,
    source: Arc<AsyncMutex<Source>>,
}

/// Rows as they come out of a running plan.
pub(super) struct Source {
    batches: mpsc::Receiver<EngineResult<RecordBatch>>,
    /// What runs it, which ends with this.
    run: JoinSet<Result<(), Error>>,
    current: Option<Rows>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cursors(&self) -> MutexGuard<'_, BTreeMap<String, Cursor>> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn statements(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that a statement of this name is prepared.
    pub(super) fn prepared(&self, name: &str) -> Result<(), Failure> {
        let mut statements = self.statements();
        if !statements.contains(name) && statements.len() >= MOST_STATEMENTS {
            let message =
                format!("a connection has at most {MOST_STATEMENTS} prepared statements: deallocate some");
            return Err(Failure::new(state::TOO_MUCH, message));
        }
        statements.insert(name.to_string());
        Ok(())
    }

    pub(super) fn declare(
        &self,
        name: String,
        schema: SchemaRef,
        hold: bool,
        source: Source,
    ) -> Result<(), Failure> {
        let mut cursors = self.cursors();
        if cursors.contains_key(&name) {
            return Err(Failure::new(state::DUPLICATE_CURSOR, format!("cursor \"{name}\" already exists")));
        }
        if cursors.len() >= MOST_CURSORS {
            let message = format!("a connection has at most {MOST_CURSORS} open cursors: close some");
            return Err(Failure::new(state::TOO_MUCH, message));
        }
        cursors.insert(name, Cursor { schema, hold, source: Arc::new(AsyncMutex::new(source)) });
        Ok(())
    }

    pub(super) fn cursor(&self, name: &str) -> Result<Cursor, Failure> {
        self.cursors().get(name).cloned().ok_or_else(|| no_cursor(name))
    }

    pub(super) fn close(&self, name: Option<&str>) -> Result<(), Failure> {
        match name {
            Some(name) => self.cursors().remove(name).map(drop).ok_or_else(|| no_cursor(name)),
            None => {
                self.cursors().clear();
                Ok(())
            }
        }
    }

    /// A transaction ends: with it, the cursors that were not to be held beyond.
    pub(super) fn end_transaction(&self) {
        self.cursors().retain(|_, cursor| cursor.hold);
    }
}

fn no_cursor(name: &str) -> Failure {
    Failure::new(state::NO_CURSOR, format!("cursor \"{name}\" does not exist"))
}

impl Cursor {
    /// The next rows: so many, or all.
    pub(super) async fn fetch(&self, fields: Arc<Vec<FieldInfo>>, rows: Option<usize>) -> QueryResponse {
        let source = Arc::clone(&self.source).lock_owned().await;
        let mut response = QueryResponse::new(Arc::clone(&fields), self::rows(source, fields, rows));
        response.set_command_tag("FETCH");
        response
    }

    /// Goes over rows: how many there were.
    pub(super) async fn skip(&self, fields: Arc<Vec<FieldInfo>>, rows: Option<usize>) -> PgWireResult<usize> {
        let source = Arc::clone(&self.source).lock_owned().await;
        let mut all = Box::pin(self::rows(source, fields, rows));
        let mut skipped = 0;
        while let Some(row) = all.next().await {
            row?;
            skipped += 1;
        }
        Ok(skipped)
    }
}

impl Source {
    /// Runs a plan on its own, so that who waits for it hears that it is cancelled, whatever it computes. When its time is
    /// over it is let go of, whether the rest is wanted or not.
    pub(super) fn new(mut batches: SendableRecordBatchStream, deadline: Deadline) -> Self {
        let (send, receive) = mpsc::channel(1);
        let mut run = JoinSet::new();
        run.spawn(async move {
            while let Some(batch) = batches.next().await {
                tokio::select! {
                    sent = send.send(batch) => if sent.is_err() { break },
                    e = deadline.passed() => return Err(e),
                }
            }
            Ok(())
        });
        Self { batches: receive, run, current: None }
    }

    /// All rows.
    pub(super) fn all(self, fields: Arc<Vec<FieldInfo>>) -> impl Stream<Item = PgWireResult<DataRow>> {
        stream::try_unfold((self, fields), async |(mut source, fields)| {
            let row = source.next(&fields).await?;
            Ok::<_, PgWireError>(row.map(|row| (row, (source, fields))))
        })
    }

    async fn next(&mut self, fields: &[FieldInfo]) -> Result<Option<DataRow>, Failure> {
        loop {
            if let Some(row) = self.current.as_mut().map(|rows| rows.next(fields)).transpose()?.flatten() {
                return Ok(Some(row));
            }
            self.current = match self.batches.recv().await {
                Some(batch) => Some(Rows::new(&batch?)?),
                None => match self.run.join_next().await {
                    Some(Ok(Err(e))) => return Err(e.into()),
                    // It did not come to its end.
                    Some(Err(e)) => return Err(Error::Internal(format!("a query broke off: {e}")).into()),
                    _ => return Ok(None),
                },
            };
        }
    }
}

fn rows(
    source: OwnedMutexGuard<Source>,
    fields: Arc<Vec<FieldInfo>>,
    rows: Option<usize>,
) -> impl Stream<Item = PgWireResult<DataRow>> {
    stream::try_unfold((source, fields, rows), async |(mut source, fields, left)| {
        if left == Some(0) {
            return Ok(None);
        }
        let row = source.next(&fields).await?;
        Ok::<_, PgWireError>(row.map(|row| (row, (source, fields, left.map(|left| left - 1)))))
    })
}
