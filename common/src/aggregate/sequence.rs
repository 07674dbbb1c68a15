//! `sequence_count(gap, ts, cond1, …)` and `sequence_match(gap, ts, cond1, …)`: chains of events that satisfy one
//! condition after the other.
//!
//! A match is a chain of events, one for each condition, in the order of `ts`, each at most `gap` after the one before
//! it. The count is that of the matches that do not overlap, found greedily: the match that ends first counts, and
//! the search begins anew behind its end. `sequence_match` says whether there is one.
//!
//! ```text
//! ends[i] = the latest time at which a chain over the conditions 1 … i ends
//! ```
//!
//! is all that the search has to know. One event serves one step of a chain: the conditions are tried from the last
//! to the first, so that what an event adds to a shorter chain it does not use itself.
//!
//! Events of equal `ts` are in the order of further tie-breaking arguments, if the function was made with them, and
//! then of the conditions that they satisfy, read as a binary number with `cond1` as its lowest digit. Without
//! tie-breakers, the events of one instant are therefore in that order only. Left out are events without a `ts` and
//! those that satisfy no condition. `gap` is an interval without months, of 0 or more; a day has 24 hours.
//!
//! A state is the list of `(ts, ties, conditions)` of the events that satisfy a condition, in their order.

use super::function::{Function, arity, constant, damaged, of_udaf, udaf};
use super::groups::Fold;
use super::records::{ASCENDING, Lists, RecordColumn, Records, list_type, lists};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Int64Type, IntervalUnit, TimeUnit, UInt64Type};
use arrow::row::Rows;
use datafusion::common::{ScalarValue, internal_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::AggregateUDF;
use datafusion::logical_expr::function::AccumulatorArgs;
use std::sync::Arc;

/// The most conditions: one bit each.
const MOST: usize = 64;
const NANOS_PER_MILLI: i128 = 1_000_000;
const NANOS_PER_DAY: i128 = 86_400_000 * NANOS_PER_MILLI;

/// What is asked about the matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// How many there are.
    Count,
    /// Whether there is one.
    Match,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sequence {
    kind: Kind,
    ties: usize,
}

/// `sequence_count` or `sequence_match` with so many tie-breaking arguments after the conditions.
pub(crate) fn sequence(kind: Kind, ties: usize) -> Arc<AggregateUDF> {
    Arc::new(udaf(Sequence { kind, ties }))
}

/// Whether the function is one of the two with tie-breaking arguments.
pub(crate) fn has_ties(function: &AggregateUDF) -> bool {
    of_udaf::<Sequence>(function).is_some_and(|sequence| sequence.ties > 0)
}

impl Sequence {
    fn ties<'a>(&self, types: &'a [DataType]) -> &'a [DataType] {
        &types[types.len().saturating_sub(self.ties)..]
    }

    fn fields(&self, types: &[DataType]) -> Result<Fields> {
        let Some(ts) = types.get(1) else { return internal_err!("{} without a time", self.name()) };
        let ties = self.ties(types).iter().enumerate();
        Ok([Field::new("ts", ts.clone(), true)]
            .into_iter()
            .chain(ties.map(|(i, t)| Field::new(format!("tie{i}"), t.clone(), true)))
            .chain([Field::new("conditions", DataType::UInt64, true)])
            .collect())
    }
}

impl Function for Sequence {
    type Fold = SequenceFold;

    fn name(&self) -> &str {
        match self.kind {
            Kind::Count => "sequence_count",
            Kind::Match => "sequence_match",
        }
    }

    fn coerce(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name();
        let usage = format!("{name}(gap, ts, condition, …) with at most {MOST} conditions");
        arity(name, types, 3 + self.ties, 2 + MOST + self.ties, &usage)?;
        if !matches!(types[0], DataType::Interval(_) | DataType::Duration(_)) {
            return plan_err!("{name} takes the longest gap first, as an interval, found {}", types[0]);
        }
        if !matches!(types[1], DataType::Timestamp(..)) {
            return plan_err!("{name} takes a timestamp after the gap, found {}", types[1]);
        }
        let conditions = &types[2..types.len() - self.ties];
        if let Some(other) = conditions.iter().find(|t| !matches!(t, DataType::Boolean | DataType::Null)) {
            return plan_err!("{name} takes conditions, found {other}");
        }
        self.ties(types).iter().try_for_each(|t| Records::check(name, t))?;
        let mut coerced = types.to_vec();
        coerced[2..types.len() - self.ties].fill(DataType::Boolean);
        Ok(coerced)
    }

    fn result(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind::Count => DataType::Int64,
            Kind::Match => DataType::Boolean,
        })
    }

    fn state(&self, types: &[DataType]) -> Result<DataType> {
        Ok(list_type(&self.fields(types)?))
    }

    fn fold(&self, call: &AccumulatorArgs<'_>) -> Result<SequenceFold> {
        let types = super::function::types(call.expr_fields);
        let fields = self.fields(&types)?;
        let columns: Vec<RecordColumn> = fields.iter().map(|f| (f.data_type().clone(), ASCENDING)).collect();
        let DataType::Timestamp(unit, _) = &types[1] else {
            return internal_err!("{} over {}", self.name(), types[1]);
        };
        Ok(SequenceFold {
            name: self.name().to_string(),
            kind: self.kind,
            ties: self.ties,
            steps: types.len() - 2 - self.ties,
            gap: nanos(self.name(), &constant(call, 0, "the gap")?)?,
            tick: nanos_per(*unit),
            records: Records::try_new(columns)?,
            fields,
        })
    }

    fn of_nothing(&self) -> Option<ScalarValue> {
        Some(match self.kind {
            Kind::Count => ScalarValue::Int64(Some(0)),
            Kind::Match => ScalarValue::Boolean(Some(false)),
        })
    }
}

fn nanos_per(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1000 * NANOS_PER_MILLI,
        TimeUnit::Millisecond => NANOS_PER_MILLI,
        TimeUnit::Microsecond => 1000,
        TimeUnit::Nanosecond => 1,
    }
}

/// The length of an interval.
fn nanos(name: &str, gap: &ScalarValue) -> Result<i128> {
    let nanos = match gap.cast_to(&DataType::Interval(IntervalUnit::MonthDayNano)) {
        Ok(ScalarValue::IntervalMonthDayNano(Some(gap))) if gap.months == 0 => {
            i128::from(gap.days) * NANOS_PER_DAY + i128::from(gap.nanoseconds)
        }
        Ok(ScalarValue::IntervalMonthDayNano(Some(_))) => {
            return plan_err!("{name}: the gap has months, which differ in length: give it in days");
        }
        _ => return plan_err!("{name}: expected the gap as an interval, found {gap}"),
    };
    if nanos < 0 {
        return plan_err!("{name}: expected a gap of 0 or more, found {gap}");
    }
    Ok(nanos)
}

/// The events of a group that satisfy a condition, as records, in no order.
#[derive(Debug, Default)]
struct Events {
    records: Vec<Box<[u8]>>,
    bytes: usize,
}

impl Events {
    fn add(&mut self, record: &[u8]) {
        self.bytes += record.len() + size_of::<Box<[u8]>>();
        self.records.push(record.into());
    }

    fn sorted(&self) -> Vec<&[u8]> {
        let mut records: Vec<&[u8]> = self.records.iter().map(AsRef::as_ref).collect();
        records.sort_unstable();
        records
    }
}

#[derive(Debug)]
struct SequenceFold {
    name: String,
    kind: Kind,
    ties: usize,
    steps: usize,
    /// In nanoseconds.
    gap: i128,
    /// The unit of times, in nanoseconds.
    tick: i128,
    fields: Fields,
    records: Records,
}

/// Events; those that are null here play no part.
#[derive(Debug)]
struct Timed {
    rows: Rows,
    matter: Option<NullBuffer>,
}

impl SequenceFold {
    /// Events of these columns: time, ties, conditions.
    fn timed(&self, columns: &[ArrayRef], conditions: &UInt64Array) -> Result<Timed> {
        let some: NullBuffer =
            (0..conditions.len()).map(|i| conditions.is_valid(i) && conditions.value(i) > 0).collect();
        let matter = NullBuffer::union(Some(&some), columns[0].logical_nulls().as_ref());
        Ok(Timed { rows: self.records.encode(columns)?, matter })
    }

    /// The sorted events of all groups: times in ticks, and conditions.
    fn events(&self, groups: &[Events]) -> Result<(Int64Array, UInt64Array)> {
        let sorted: Vec<&[u8]> = groups.iter().flat_map(Events::sorted).collect();
        let columns = self.records.decode(sorted)?;
        let times = cast(&columns[0], &DataType::Int64)?.as_primitive::<Int64Type>().clone();
        Ok((times, columns[columns.len() - 1].as_primitive::<UInt64Type>().clone()))
    }

    /// How many matches there are in sorted events.
    fn matches(&self, events: impl Iterator<Item = (i64, u64)>) -> i64 {
        let mut ends: Vec<Option<i64>> = vec![None; self.steps];
        let mut matches = 0;
        for (time, conditions) in events {
            for step in (0..self.steps).rev().filter(|step| conditions >> step & 1 == 1) {
                if step == 0 || ends[step - 1].is_some_and(|end| self.in_reach(end, time)) {
                    ends[step] = Some(time);
                }
            }
            if ends.last().is_some_and(Option::is_some) {
                ends.fill(None);
                matches += 1;
            }
        }
        matches
    }

    fn in_reach(&self, from: i64, to: i64) -> bool {
        (i128::from(to) - i128::from(from)) * self.tick <= self.gap
    }
}

/// One bit for each condition that holds.
fn masks(conditions: &[ArrayRef]) -> Result<UInt64Array> {
    let rows = conditions.first().map_or(0, |c| c.len());
    let mut masks = vec![0_u64; rows];
    for (bit, condition) in conditions.iter().enumerate() {
        let Some(condition) = condition.as_boolean_opt() else { return internal_err!("no condition") };
        let holds = |row: usize| condition.is_valid(row) && condition.value(row);
        masks.iter_mut().enumerate().for_each(|(row, mask)| *mask |= u64::from(holds(row)) << bit);
    }
    Ok(UInt64Array::from(masks))
}

impl Fold for SequenceFold {
    type Group = Events;
    type Batch = Timed;
    type States = (Lists, Timed);

    fn batch(&self, arguments: &[ArrayRef]) -> Result<Timed> {
        if arguments.len() != 2 + self.steps + self.ties {
            return internal_err!("{} with {} arguments", self.name, arguments.len());
        }
        let (conditions, ties) = arguments[2..].split_at(self.steps);
        let masks = masks(conditions)?;
        let mask: ArrayRef = Arc::new(masks.clone());
        self.timed(&[&arguments[1..2], ties, &[mask]].concat(), &masks)
    }

    fn row(&self, group: &mut Events, batch: &Timed, row: usize) -> Result<()> {
        if batch.matter.as_ref().is_none_or(|matter| matter.is_valid(row)) {
            group.add(batch.rows.row(row).data());
        }
        Ok(())
    }

    fn states(&self, column: &ArrayRef) -> Result<(Lists, Timed)> {
        let lists = Lists::open(&self.name, column, self.fields.len())?;
        let Some(masks) = lists.columns[self.fields.len() - 1].as_primitive_opt::<UInt64Type>() else {
            return Err(damaged(&self.name, "expected conditions as BIGINT UNSIGNED"));
        };
        let timed = self.timed(&lists.columns, masks).map_err(|e| damaged(&self.name, e))?;
        Ok((lists, timed))
    }

    fn merge(&self, group: &mut Events, (lists, timed): &(Lists, Timed), row: usize) -> Result<()> {
        lists.rows(row).try_for_each(|row| self.row(group, timed, row))
    }

    fn state(&self, groups: &[Events]) -> Result<ArrayRef> {
        let sorted: Vec<&[u8]> = groups.iter().flat_map(Events::sorted).collect();
        let lengths = groups.iter().map(|g| g.records.len());
        lists(&self.fields, lengths, self.records.decode(sorted)?, None)
    }

    fn finish(&self, groups: &[Events]) -> Result<ArrayRef> {
        let (times, conditions) = self.events(groups)?;
        let mut start = 0;
        let counts = groups.iter().map(|group| {
            let events = start..start + group.records.len();
            start = events.end;
            self.matches(events.map(|row| (times.value(row), conditions.value(row))))
        });
        Ok(match self.kind {
            Kind::Count => Arc::new(Int64Array::from_iter_values(counts)),
            Kind::Match => Arc::new(BooleanArray::from_iter(counts.map(|count| Some(count > 0)))),
        })
    }

    fn size(group: &Events) -> usize {
        group.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::conformance::{Argument, Call, answer, cases};
    use arrow::array::TimestampSecondArray;
    use proptest::prelude::*;

    /// Events of these steps (a letter satisfies the condition that bears its name), ten minutes apart.
    fn events(steps: &str) -> Vec<(&'static str, ArrayRef)> {
        let times = (0..steps.len() as i64).map(|i| i * 600);
        let holds = |step: char| Arc::new(BooleanArray::from_iter(steps.chars().map(|s| Some(s == step))));
        vec![
            ("ts", Arc::new(TimestampSecondArray::from_iter_values(times))),
            ("a", holds('a')),
            ("b", holds('b')),
            ("c", holds('c')),
        ]
    }

    fn abc(steps: &str, gap: &str) -> String {
        let sql = format!(
            "SELECT sequence_count(INTERVAL '{gap}', ts, a, b, c), sequence_match(INTERVAL '{gap}', ts, a, b, c)
            FROM t"
        );
        answer(&sql, events(steps)).unwrap().concat()
    }

    #[test]
    fn chains_within_the_gap_are_counted() {
        assert_eq!(abc("abc", "10 minutes"), "1 true");
        assert_eq!(abc("abc", "599 seconds"), "0 false");
        assert_eq!(abc("abxc", "10 minutes"), "0 false");
        assert_eq!(abc("abxc", "20 minutes"), "1 true");
        assert_eq!(abc("aabbcc", "20 minutes"), "1 true");
        assert_eq!(abc("abcabcab", "1 day"), "2 true");
        assert_eq!(abc("cba", "1 day"), "0 false");
        assert_eq!(abc("", "1 day"), "0 false");
    }

    #[test]
    fn an_event_serves_one_step() {
        let both = "SELECT sequence_count(INTERVAL '1 day', ts, a, a) FROM t";
        assert_eq!(answer(both, events("a")).unwrap(), ["0"]);
        assert_eq!(answer(both, events("aaaaa")).unwrap(), ["2"]);
    }

    #[test]
    fn at_one_instant_the_steps_are_in_their_order() {
        let sql = "SELECT sequence_count(INTERVAL '0 seconds', arrow_cast(0 * extract(epoch from ts),
            'Timestamp(Millisecond, None)'), a, b, NULL OR c) FROM t";
        assert_eq!(answer(sql, events("cba")).unwrap(), ["1"]);
    }

    #[test]
    fn gaps_and_conditions_that_are_none_are_refused() {
        for (arguments, why) in [
            ("INTERVAL '1 month', ts, a", "the gap has months"),
            ("INTERVAL '-1 day', ts, a", "a gap of 0 or more"),
            ("ts - ts, ts, a", "the gap must be a constant"),
            ("1, ts, a", "takes the longest gap first"),
            ("INTERVAL '1 day', a, a", "takes a timestamp"),
            ("INTERVAL '1 day', ts, ts", "takes conditions"),
            ("INTERVAL '1 day', ts", "sequence_count(gap, ts, condition, …)"),
        ] {
            let sql = format!("SELECT sequence_count({arguments}) FROM t");
            let error = answer(&sql, events("abc")).unwrap_err().to_string();
            assert!(error.contains(why), "{arguments}: {error}");
        }
    }

    #[test]
    fn a_state_column_that_is_none_is_refused() {
        let state: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let call = call(Kind::Count, 0, &[]);
        let error = call.accumulator().unwrap().merge_batch(&[state], &[0], 1).unwrap_err().to_string();
        assert!(error.contains("state of sequence_count"), "{error}");
    }

    /// Time, conditions as a mask, tie-breaker, group.
    type Row = (i64, u8, i64, usize);

    fn call(kind: Kind, gap: i64, rows: &[Row]) -> Call {
        let holds = |bit: u8| BooleanArray::from_iter(rows.iter().map(|row| Some(row.1 >> bit & 1 == 1)));
        let arguments = vec![
            Argument::Constant(ScalarValue::DurationSecond(Some(gap))),
            TimestampSecondArray::from_iter_values(rows.iter().map(|row| row.0)).into(),
            holds(0).into(),
            holds(1).into(),
            holds(2).into(),
            Int64Array::from_iter_values(rows.iter().map(|row| row.2)).into(),
        ];
        Call::new(sequence(kind, 1), arguments, rows.iter().map(|row| row.3).collect())
    }

    /// The matches, by looking for the earliest end of a chain among all pairs of events, over and over.
    fn matches(mut rows: &[Row], gap: i64) -> i64 {
        let mut matches = 0;
        loop {
            let mut ends = vec![[false; 3]; rows.len()];
            for (i, row) in rows.iter().enumerate() {
                let from = |step: usize| (0..i).any(|j| ends[j][step] && row.0 - rows[j].0 <= gap);
                ends[i] = [row.1 & 1 > 0, row.1 & 2 > 0 && from(0), row.1 & 4 > 0 && from(1)];
            }
            let Some(end) = ends.iter().position(|end| end[2]) else { return matches };
            matches += 1;
            rows = &rows[end + 1..];
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4 * cases()))]

        #[test]
        fn matches_are_those_of_plain_code_and_the_laws_hold(
            rows in proptest::collection::vec((0..30_i64, 0..8_u8, 0..3_i64, 0_usize..2), 1..40),
            gap in 0..8_i64,
            seed in any::<u64>(),
        ) {
            call(Kind::Match, gap, &rows).check(seed);
            let counted = call(Kind::Count, gap, &rows);
            counted.check(seed);
            let found = counted.values();
            for group in 0..found.len() {
                let mut rows: Vec<Row> = rows.iter().filter(|row| row.3 == group).copied().collect();
                rows.sort_by_key(|row| (row.0, row.2, row.1));
                prop_assert_eq!(found.as_primitive::<Int64Type>().value(group), matches(&rows, gap));
            }
        }
    }
}
