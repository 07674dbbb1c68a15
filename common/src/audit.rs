//! Audits: what comparing states has found, and the relation `twofold_audit`.
//!
//! A *finding* says of one cut of a view whether two states of the same events are the same, by their digests:
//!
//! ```text
//! of a segment     the speed layer's state   =  what the archive's file gives when it is folded
//! of a batch view  its own state             =  what a full run gives at its horizon
//! equal            both digests are known, and the same; unknown while one of them is not
//! ```
//!
//! The state on the right is the one that counts. [`newest`] says which findings are told: the last one of each cut and
//! segment, and every difference that was ever found, even if later nobody found it again.

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::offset::{Offset, OffsetRange, Partition};
use crate::state_file::StateFile;
use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray,
};
use arrow::datatypes::{
    DataType, Field, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampNanosecondType,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The relation's name.
pub const AUDIT: &str = "twofold_audit";

/// What states were compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Audited {
    /// Those of one segment: the speed layer's, and that of its archived file.
    Segment {
        /// The stream.
        stream: String,
        /// The partition.
        partition: Partition,
        /// The segment.
        range: OffsetRange,
    },
    /// Those of everything below the horizon of a batch view: its own, and a full run's.
    BatchView,
}

/// Who compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditRun {
    /// An incremental batch run.
    Incremental,
    /// A full batch run.
    Full,
    /// `twofold audit`.
    Audit,
}

impl AuditRun {
    /// `incremental`, `full` or `audit`.
    pub fn name(self) -> &'static str {
        match self {
            AuditRun::Incremental => "incremental",
            AuditRun::Full => "full",
            AuditRun::Audit => "audit",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [AuditRun::Incremental, AuditRun::Full, AuditRun::Audit].into_iter().find(|run| run.name() == name)
    }
}

/// What one comparison found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Of what.
    pub audited: Audited,
    /// The number of the view's cut.
    pub cut: usize,
    /// The digest of the state that was compared: the speed layer's, or the batch view's. `None` if there was none.
    pub found: Option<Digest>,
    /// The digest of the state that counts, folded from the archive.
    pub batch: Digest,
    /// Who compared.
    pub run: AuditRun,
    /// When, in nanoseconds since the epoch, UTC.
    pub at: i64,
    /// The states themselves, as far as they were kept. Only of differences.
    pub kept: Kept,
}

/// The states of a difference, as files. Of a batch view, only the rows in which they differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The state with the digest `found`.
    pub found: Option<StateFile>,
    /// The state with the digest `batch`.
    pub batch: Option<StateFile>,
}

/// How many cuts and segments of a view there are findings of, each counted by its last one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditTotals {
    /// Where both states are the same.
    pub equal: u64,
    /// Where there was no other state to compare with.
    pub unaudited: u64,
    /// Where they differ.
    pub unequal: u64,
    /// When the last finding was made, in nanoseconds since the epoch, UTC.
    pub at: i64,
}

impl Finding {
    /// Whether the states are the same; `None` if there was only one.
    pub fn equal(&self) -> Option<bool> {
        self.found.map(|found| found == self.batch)
    }

    /// What makes two findings one: the last that is no difference, and each difference for itself.
    fn identity(&self) -> (Audited, usize, Option<(Option<Digest>, Digest)>) {
        let difference = (self.equal() == Some(false)).then_some((self.found, self.batch));
        (self.audited.clone(), self.cut, difference)
    }
}

/// The findings that are told, of those made in this order: in the order of what they are of. States that were kept
/// once stay.
pub(crate) fn newest(findings: impl IntoIterator<Item = Finding>) -> Vec<Finding> {
    let mut told = BTreeMap::new();
    for finding in findings {
        let identity = finding.identity();
        let finding = match told.remove(&identity) {
            Some(Finding { kept, .. }) => {
                let found = finding.kept.found.or(kept.found);
                Finding { kept: Kept { found, batch: finding.kept.batch.or(kept.batch) }, ..finding }
            }
            None => finding,
        };
        told.insert(identity, finding);
    }
    told.into_values().collect()
}

/// The totals of the [`newest`] findings.
pub(crate) fn totals(told: &[Finding]) -> AuditTotals {
    let mut last: BTreeMap<(&Audited, usize), &Finding> = BTreeMap::new();
    for finding in told {
        let known = last.entry((&finding.audited, finding.cut)).or_insert(finding);
        // Of one moment, the difference counts.
        let worse = finding.at == known.at && finding.equal() == Some(false);
        if finding.at > known.at || worse {
            *known = finding;
        }
    }
    let mut totals =
        AuditTotals { at: told.iter().map(|f| f.at).max().unwrap_or(0), ..AuditTotals::default() };
    for finding in last.into_values() {
        match finding.equal() {
            Some(true) => totals.equal += 1,
            None => totals.unaudited += 1,
            Some(false) => totals.unequal += 1,
        }
    }
    totals
}

impl Finding {
    /// The columns of the relation.
    pub fn schema() -> SchemaRef {
        let field = |name: &str, data_type: DataType, nullable| Field::new(name, data_type, nullable);
        Arc::new(Schema::new(vec![
            field("view", DataType::Utf8, false),
            field("fingerprint", DataType::Utf8, false),
            field("cut", DataType::Int32, false),
            field("stream", DataType::Utf8, true),
            field("partition", DataType::Int32, true),
            field("start_offset", DataType::Int64, true),
            field("end_offset", DataType::Int64, true),
            field("speed_digest", DataType::Utf8, true),
            field("incremental_digest", DataType::Utf8, true),
            field("batch_digest", DataType::Utf8, false),
            field("equal", DataType::Boolean, true),
            field("explainable", DataType::Boolean, false),
            field("run", DataType::Utf8, false),
            field("at", DataType::Timestamp(TimeUnit::Nanosecond, None), false),
        ]))
    }

    /// The findings of a view's version as the relation has them, in their order.
    pub fn rows(view: &str, fingerprint: &str, findings: &[Finding]) -> Result<RecordBatch> {
        let place = Places::of(findings);
        let found = |of_segment: bool| -> StringArray {
            let mine = |f: &Finding| matches!(f.audited, Audited::Segment { .. }) == of_segment;
            findings.iter().map(|f| f.found.filter(|_| mine(f)).map(|digest| digest.to_string())).collect()
        };
        let explainable = |f: &Finding| f.kept.found.is_some() && f.kept.batch.is_some();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(findings.iter().map(|_| view))),
            Arc::new(StringArray::from_iter_values(findings.iter().map(|_| fingerprint))),
            Arc::new(cuts(findings)),
            Arc::new(place.streams),
            Arc::new(place.partitions),
            Arc::new(place.starts),
            Arc::new(place.ends),
            Arc::new(found(true)),
            Arc::new(found(false)),
            Arc::new(StringArray::from_iter_values(findings.iter().map(|f| f.batch.to_string()))),
            Arc::new(findings.iter().map(Finding::equal).collect::<BooleanArray>()),
            Arc::new(findings.iter().map(|f| Some(explainable(f))).collect::<BooleanArray>()),
            Arc::new(StringArray::from_iter_values(findings.iter().map(|f| f.run.name()))),
            Arc::new(TimestampNanosecondArray::from_iter_values(findings.iter().map(|f| f.at))),
        ];
        Ok(RecordBatch::try_new(Self::schema(), columns)?)
    }

    /// The findings as they are stored.
    pub(crate) fn to_stored(findings: &[Finding]) -> Result<RecordBatch> {
        let place = Places::of(findings);
        let kept = |f: &Finding| match &f.kept {
            kept if *kept == Kept::default() => Ok(None),
            kept => serde_json::to_string(kept).map(Some),
        };
        let kept = findings.iter().map(kept).collect::<Result<StringArray, _>>();
        let kept = kept.map_err(|e| Error::Internal(format!("a finding cannot be written: {e}")))?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(cuts(findings)),
            Arc::new(place.streams),
            Arc::new(place.partitions),
            Arc::new(place.starts),
            Arc::new(place.ends),
            Arc::new(findings.iter().map(|f| f.found.map(|d| d.to_string())).collect::<StringArray>()),
            Arc::new(StringArray::from_iter_values(findings.iter().map(|f| f.batch.to_string()))),
            Arc::new(StringArray::from_iter_values(findings.iter().map(|f| f.run.name()))),
            Arc::new(TimestampNanosecondArray::from_iter_values(findings.iter().map(|f| f.at))),
            Arc::new(kept),
        ];
        Ok(RecordBatch::try_new(Self::stored_schema(), columns)?)
    }

    pub(crate) fn stored_schema() -> SchemaRef {
        let schema = Self::schema();
        let mut fields: Vec<_> = ["cut", "stream", "partition", "start_offset", "end_offset"]
            .map(|name| column(&schema, name))
            .into();
        fields.push(Field::new("found", DataType::Utf8, true));
        fields.push(Field::new("batch", DataType::Utf8, false));
        fields.extend(["run", "at"].map(|name| column(&schema, name)));
        fields.push(Field::new("kept", DataType::Utf8, true));
        Arc::new(Schema::new(fields))
    }

    /// Findings as they were stored; what is wrong with them, if anything is.
    pub(crate) fn from_stored(batch: &RecordBatch) -> Result<Vec<Finding>, String> {
        if batch.schema_ref().fields() != Self::stored_schema().fields() {
            return Err(format!("expected the columns of findings, found {}", batch.schema()));
        }
        let text = |column: usize, row: usize| {
            let column = batch.column(column).as_string::<i32>();
            (!arrow::array::Array::is_null(column, row)).then(|| column.value(row))
        };
        let offset = |column: usize, row: usize| {
            let value = batch.column(column).as_primitive::<Int64Type>().value(row);
            u64::try_from(value).map(Offset).map_err(|_| format!("an offset {value}"))
        };
        let number = |column: usize, row: usize| {
            let value = batch.column(column).as_primitive::<Int32Type>().value(row);
            u32::try_from(value).map_err(|_| format!("a number {value}"))
        };
        let digest = |text: &str| Digest::from_hex(text).ok_or_else(|| format!("{text:?} is no digest"));
        let finding = |row: usize| -> Result<Finding, String> {
            let audited = match text(1, row) {
                None => Audited::BatchView,
                Some(stream) => Audited::Segment {
                    stream: stream.to_string(),
                    partition: Partition(number(2, row)?),
                    range: OffsetRange::new(offset(3, row)?, offset(4, row)?),
                },
            };
            let run = text(7, row).unwrap_or_default();
            let kept = text(9, row).map(serde_json::from_str).transpose();
            Ok(Finding {
                audited,
                cut: number(0, row)? as usize,
                found: text(5, row).map(digest).transpose()?,
                batch: digest(text(6, row).unwrap_or_default())?,
                run: AuditRun::from_name(run).ok_or_else(|| format!("an unknown run {run:?}"))?,
                at: batch.column(8).as_primitive::<TimestampNanosecondType>().value(row),
                kept: kept.map_err(|e| e.to_string())?.unwrap_or_default(),
            })
        };
        (0..batch.num_rows()).map(finding).collect()
    }
}

fn column(schema: &Schema, name: &str) -> Field {
    schema.field_with_name(name).cloned().unwrap_or_else(|_| Field::new(name, DataType::Null, true))
}

fn cuts(findings: &[Finding]) -> Int32Array {
    findings.iter().map(|f| i32::try_from(f.cut).ok()).collect()
}

/// The columns that say of what findings are.
struct Places {
    streams: StringArray,
    partitions: Int32Array,
    starts: Int64Array,
    ends: Int64Array,
}

impl Places {
    fn of(findings: &[Finding]) -> Self {
        let places = || {
            findings.iter().map(|f| match &f.audited {
                Audited::Segment { stream, partition, range } => Some((stream, partition, range)),
                Audited::BatchView => None,
            })
        };
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        Self {
            streams: places().map(|place| place.map(|(stream, ..)| stream)).collect(),
            partitions: places()
                .map(|place| place.map(|(_, partition, _)| i32::try_from(partition.0).unwrap_or(i32::MAX)))
                .collect(),
            starts: places().map(|place| place.map(|(.., range)| number(range.start.0))).collect(),
            ends: places().map(|place| place.map(|(.., range)| number(range.end.0))).collect(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A finding about the segment `[start, start + 10)`, made at `at`.
    pub(crate) fn finding(start: u64, found: Option<&str>, batch: &str, at: i64) -> Finding {
        let range = OffsetRange::new(Offset(start), Offset(start + 10));
        Finding {
            audited: Audited::Segment { stream: "flights".into(), partition: Partition(1), range },
            cut: 0,
            found: found.map(|text| Digest::of(text.as_bytes())),
            batch: Digest::of(batch.as_bytes()),
            run: AuditRun::Incremental,
            at,
            kept: Kept::default(),
        }
    }

    fn kept(path: &str) -> Kept {
        let file = StateFile { path: path.into(), rows: 1, bytes: 2, digest: Digest::of(b"") };
        Kept { found: Some(file.clone()), batch: Some(file) }
    }

    #[test]
    fn the_last_finding_counts_and_no_difference_is_forgotten() {
        let difference = Finding { kept: kept("x"), ..finding(0, Some("a"), "b", 1) };
        let again = Finding { run: AuditRun::Full, ..finding(0, Some("a"), "b", 2) };
        let whole = Finding { audited: Audited::BatchView, ..finding(0, Some("c"), "c", 1) };
        let told = newest([difference.clone(), whole, again.clone(), finding(10, None, "b", 1)]);
        assert_eq!(told.len(), 3);
        let kept_once = told.iter().find(|f| f.equal() == Some(false)).unwrap();
        assert_eq!((kept_once.run, kept_once.at, &kept_once.kept), (AuditRun::Full, 2, &difference.kept));
        assert_eq!(totals(&told), AuditTotals { equal: 1, unaudited: 1, unequal: 1, at: 2 });

        // Later the states are the same: that counts, and the difference is still told.
        let told =
            newest(told.into_iter().chain([finding(0, Some("b"), "b", 3), finding(10, Some("b"), "b", 3)]));
        assert_eq!(told.len(), 4);
        assert_eq!(totals(&told), AuditTotals { equal: 3, unaudited: 0, unequal: 0, at: 3 });
        assert_eq!(told.iter().filter(|f| f.equal() == Some(false)).count(), 1);
    }

    #[test]
    fn what_is_stored_is_read_back() {
        let findings = [
            Finding { kept: kept("x"), ..finding(0, Some("a"), "b", 1) },
            finding(10, None, "b", -1),
            Finding {
                audited: Audited::BatchView,
                cut: 3,
                run: AuditRun::Full,
                ..finding(0, Some("c"), "c", 5)
            },
        ];
        assert_eq!(Finding::from_stored(&Finding::to_stored(&findings).unwrap()).unwrap(), findings);
        assert!(Finding::from_stored(&Finding::rows("v", "f", &findings).unwrap()).is_err());
    }

    #[test]
    fn the_relation_has_both_digests_and_whether_they_are_equal() {
        let whole =
            Finding { audited: Audited::BatchView, run: AuditRun::Full, ..finding(0, Some("c"), "c", 5) };
        let rows =
            Finding::rows("v", "f", &[finding(0, Some("a"), "b", 1), finding(10, None, "b", 2), whole]);
        let rows = rows.unwrap();
        let text = |name: &str| {
            let column = rows.column_by_name(name).unwrap();
            (0..3)
                .map(|i| arrow::util::display::array_value_to_string(column, i).unwrap())
                .collect::<Vec<_>>()
        };
        let (a, c) = (Digest::of(b"a").to_string(), Digest::of(b"c").to_string());
        assert_eq!(text("speed_digest"), [a.as_str(), "", ""]);
        assert_eq!(text("incremental_digest"), ["", "", c.as_str()]);
        assert_eq!(text("equal"), ["false", "", "true"]);
        assert_eq!(text("start_offset"), ["0", "10", ""]);
        assert_eq!(text("run"), ["incremental", "incremental", "full"]);
    }
}
