//! A log that fails, over one in memory, and remembers every event that it ever took in: what the oracle reads.

use super::gate::{Fault, Gate};
use arrow::array::RecordBatch;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use twofold_common::{
    AppendRequest, Appended, Error, Log, LogBounds, LogChunk, Offset, OffsetRange, Partition, Result,
};
use twofold_speed::MemoryLog;

use Fault::{LostAnswer, Slow, Timeout};

/// All events of each partition of each stream, in offset order.
pub type Events = BTreeMap<(String, Partition), Vec<RecordBatch>>;

/// The faulty log.
#[derive(Debug)]
pub struct FaultyLog {
    inner: MemoryLog,
    gate: Arc<Gate>,
    all: Mutex<Events>,
    /// The requests that were taken in, and are not again when they are sent again.
    known: Mutex<BTreeSet<(String, String)>>,
}

impl FaultyLog {
    pub fn new(inner: MemoryLog, gate: Arc<Gate>) -> Self {
        Self { inner, gate, all: Mutex::default(), known: Mutex::default() }
    }

    /// All that was ever appended.
    pub fn all(&self) -> Events {
        self.all.lock().unwrap().clone()
    }

    fn failure(&self, io: &'static str, fault: Fault) -> Error {
        self.gate.count(io, fault);
        Error::Unavailable(format!("the log: {io}: {fault:?}"))
    }

    async fn remember(&self, appends: Vec<(String, Partition)>, ranges: &[OffsetRange]) -> Result<()> {
        for ((stream, partition), range) in appends.into_iter().zip(ranges) {
            let chunk = self.inner.read(&stream, partition, range.start, usize::MAX).await?;
            let mut all = self.all.lock().unwrap();
            let known = all.entry((stream, partition)).or_default();
            for batch in chunk.batches {
                known.push(twofold_common::stream::below(&batch, range.end)?);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Log for FaultyLog {
    async fn append_request(&self, request: AppendRequest) -> Result<Appended> {
        let places: Vec<_> = request.appends.iter().map(|a| (a.stream.clone(), a.partition)).collect();
        let on = places.first().map(|(stream, _)| stream.clone()).unwrap_or_default();
        let fault = self.gate.enter("append", &on, &[Fault::Error, Timeout, LostAnswer, Slow]).await;
        if fault == Some(Fault::Error) || fault == Some(Timeout) && self.gate.coin() {
            return Err(self.failure("append", fault.unwrap_or(Fault::Error)));
        }
        let key = request.once.as_ref().map(|once| (once.stream.clone(), once.key.to_string()));
        let appended = self.inner.append_request(request).await?;
        if key.is_none_or(|key| self.known.lock().unwrap().insert(key)) {
            self.remember(places, &appended.ranges).await?;
        }
        self.gate.leave("append", &on).await;
        match fault {
            Some(fault) => Err(self.failure("append", fault)),
            None => Ok(appended),
        }
    }

    async fn read(&self, stream: &str, partition: Partition, from: Offset, max: usize) -> Result<LogChunk> {
        match self.gate.enter("read", stream, &[Fault::Error, Slow]).await {
            Some(fault) => Err(self.failure("read", fault)),
            None => self.inner.read(stream, partition, from, max).await,
        }
    }

    async fn bounds(&self, stream: &str, partition: Partition) -> Result<LogBounds> {
        match self.gate.enter("bounds", stream, &[Fault::Error, Slow]).await {
            Some(fault) => Err(self.failure("bounds", fault)),
            None => self.inner.bounds(stream, partition).await,
        }
    }

    async fn trim(&self, stream: &str, partition: Partition, below: Offset) -> Result<()> {
        let fault = self.gate.enter("trim", stream, &[Fault::Error, LostAnswer, Slow]).await;
        if fault == Some(Fault::Error) {
            return Err(self.failure("trim", Fault::Error));
        }
        self.inner.trim(stream, partition, below).await?;
        self.gate.leave("trim", stream).await;
        match fault {
            Some(fault) => Err(self.failure("trim", fault)),
            None => Ok(()),
        }
    }

    fn appended(&self) -> watch::Receiver<u64> {
        self.inner.appended()
    }
}
