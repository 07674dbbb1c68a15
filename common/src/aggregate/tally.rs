//! `count_by`, `top_k` and `mode`, and what else is told from how often each value occurs.
//!
//! | function         | gives                                                                                    |
//! | ---------------- | ---------------------------------------------------------------------------------------- |
//! | `count_by(x)`    | `MAP(x, BIGINT)`: how often each value occurs, by value                                  |
//! | `top_k(x, k)`    | `LIST<STRUCT<value, count BIGINT>>`: the `k` (1 to 10,000) most frequent values, by count descending, then by value |
//! | `mode(x)`        | the most frequent value, the least among equals                                          |
//! | `median(x)`      | as the engine's, see [`super::quantile`]                                                 |
//! | `percentile_cont(x, q)` | likewise                                                                          |
//!
//! All are exact and leave nulls out; of no values they give null. Each has a weighted form that takes `(x, n, …)`
//! and counts each row `n` times, for those who keep one row for each value and its count; the engine's own `median`
//! and `percentile_cont` do for the plain forms.

use super::counts::{Counting, Counts, Valued};
use super::function::{Function, arity, constant, floating, percentile, udaf};
use super::groups::Fold;
use super::quantile;
use super::records::{Lists, Records, fields, list_type, lists, offsets};
use super::weight::{self, bigint};
use arrow::array::{ArrayRef, Int64Array, MapArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{ScalarValue, internal_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::AggregateUDF;
use datafusion::logical_expr::function::AccumulatorArgs;
use std::sync::Arc;

/// The most values that `top_k` gives.
const MOST: i64 = 10_000;

/// What is asked about the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Question {
    CountBy,
    TopK,
    Mode,
    Median,
    PercentileCont { descending: bool },
}

/// A question with its constants.
#[derive(Debug, Clone, Copy)]
enum Asked {
    CountBy,
    TopK(usize),
    Mode,
    Median,
    Percentile(f64),
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Tally {
    name: &'static str,
    question: Question,
    weighted: bool,
}

fn tally(name: &'static str, question: Question, weighted: bool) -> Arc<AggregateUDF> {
    Arc::new(udaf(Tally { name, question, weighted }))
}

/// `count_by(x)`.
pub(crate) fn count_by() -> Arc<AggregateUDF> {
    tally("count_by", Question::CountBy, false)
}

/// `top_k(x, k)`.
pub(crate) fn top_k() -> Arc<AggregateUDF> {
    tally("top_k", Question::TopK, false)
}

/// `mode(x)`.
pub(crate) fn mode() -> Arc<AggregateUDF> {
    tally("mode", Question::Mode, false)
}

/// `count_by` of `(x, n)`.
pub(crate) fn weighted_count_by() -> Arc<AggregateUDF> {
    tally("weighted_count_by", Question::CountBy, true)
}

/// `top_k` of `(x, n, k)`.
pub(crate) fn weighted_top_k() -> Arc<AggregateUDF> {
    tally("weighted_top_k", Question::TopK, true)
}

/// `mode` of `(x, n)`.
pub(crate) fn weighted_mode() -> Arc<AggregateUDF> {
    tally("weighted_mode", Question::Mode, true)
}

/// The engine's `median` of `(x, n)`.
pub(crate) fn weighted_median() -> Arc<AggregateUDF> {
    tally("weighted_median", Question::Median, true)
}

/// The engine's `percentile_cont` of `(x, n, q)`.
pub(crate) fn weighted_percentile_cont(descending: bool) -> Arc<AggregateUDF> {
    tally("weighted_percentile_cont", Question::PercentileCont { descending }, true)
}

impl Tally {
    fn has_constant(&self) -> bool {
        matches!(self.question, Question::TopK | Question::PercentileCont { .. })
    }

    fn usage(&self) -> String {
        let weight = if self.weighted { ", n" } else { "" };
        let constant = match self.question {
            Question::TopK => ", k",
            Question::PercentileCont { .. } => ", q",
            _ => "",
        };
        format!("{}(x{weight}{constant})", self.name)
    }

    fn value_type(&self, data_type: &DataType) -> Result<DataType> {
        match self.question {
            Question::Median if data_type.is_decimal() => Ok(data_type.clone()),
            Question::Median | Question::PercentileCont { .. } => floating(self.name, data_type),
            Question::CountBy | Question::TopK | Question::Mode => {
                Records::check(self.name, data_type)?;
                Ok(data_type.clone())
            }
        }
    }

    fn asked(&self, call: &AccumulatorArgs<'_>) -> Result<Asked> {
        let place = 1 + usize::from(self.weighted);
        Ok(match self.question {
            Question::CountBy => Asked::CountBy,
            Question::TopK => match constant(call, place, "k")?.cast_to(&DataType::Int64) {
                Ok(ScalarValue::Int64(Some(k @ 1..=MOST))) => Asked::TopK(k as usize),
                _ => return plan_err!("{}: k must be an integer from 1 to {MOST}", self.name),
            },
            Question::Mode => Asked::Mode,
            Question::Median => Asked::Median,
            Question::PercentileCont { descending: false } => Asked::Percentile(percentile(call, place)?),
            Question::PercentileCont { descending: true } => {
                Asked::Percentile(1.0 - percentile(call, place)?)
            }
        })
    }
}

impl Function for Tally {
    type Fold = TallyFold;

    fn name(&self) -> &str {
        self.name
    }

    fn coerce(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let arguments = 1 + usize::from(self.weighted) + usize::from(self.has_constant());
        arity(self.name, types, arguments, arguments, &self.usage())?;
        let mut coerced = vec![self.value_type(&types[0])?];
        if self.weighted {
            coerced.push(weight::coerce(self.name, &types[1])?);
        }
        coerced.extend_from_slice(&types[coerced.len()..]);
        match coerced.last() {
            Some(last) if self.has_constant() && !last.is_numeric() => {
                plan_err!("expected {} with a number at the end, found {last}", self.usage())
            }
            _ => Ok(coerced),
        }
    }

    fn result(&self, types: &[DataType]) -> Result<DataType> {
        let Some(value) = types.first() else { return internal_err!("{} without an argument", self.name) };
        Ok(match self.question {
            Question::CountBy => DataType::Map(map_field(value), false),
            Question::TopK => list_type(&top_fields(value)),
            Question::Mode => value.clone(),
            Question::Median | Question::PercentileCont { .. } => self.value_type(value)?,
        })
    }

    fn state(&self, types: &[DataType]) -> Result<DataType> {
        match types.first() {
            Some(value) => Ok(Counting::state_type(value)),
            None => internal_err!("{} without an argument", self.name),
        }
    }

    fn fold(&self, call: &AccumulatorArgs<'_>) -> Result<TallyFold> {
        let data_type = call.expr_fields[0].data_type().clone();
        let counting = Counting::try_new(self.name, &data_type, self.weighted)?;
        Ok(TallyFold { counting, data_type, asked: self.asked(call)? })
    }
}

/// Counts for each group, and what is asked about them.
#[derive(Debug)]
struct TallyFold {
    counting: Counting,
    data_type: DataType,
    asked: Asked,
}

impl Fold for TallyFold {
    type Group = Counts;
    type Batch = Valued;
    type States = (Lists, Valued);

    fn batch(&self, arguments: &[ArrayRef]) -> Result<Valued> {
        self.counting.batch(arguments)
    }

    fn row(&self, group: &mut Counts, batch: &Valued, row: usize) -> Result<()> {
        Counting::row(group, batch, row)
    }

    fn states(&self, column: &ArrayRef) -> Result<(Lists, Valued)> {
        self.counting.states(column)
    }

    fn merge(&self, group: &mut Counts, states: &(Lists, Valued), row: usize) -> Result<()> {
        Counting::merge(group, states, row)
    }

    fn state(&self, groups: &[Counts]) -> Result<ArrayRef> {
        self.counting.state(groups)
    }

    fn finish(&self, groups: &[Counts]) -> Result<ArrayRef> {
        let values = &self.counting.values;
        match self.asked {
            Asked::CountBy => maps(groups, values, &self.data_type),
            Asked::TopK(k) => tops(groups, values, &self.data_type, k),
            Asked::Mode => {
                let modes: Vec<_> = groups.iter().map(|g| most_frequent(g, 1).first().map(|m| m.0)).collect();
                values.decode_some(&modes, 0)
            }
            Asked::Median => quantile::medians(groups, values),
            Asked::Percentile(q) => quantile::percentiles(groups, values, q),
        }
    }

    fn size(group: &Counts) -> usize {
        group.size()
    }
}

/// The `k` most frequent values: by count descending, then by value.
fn most_frequent(group: &Counts, k: usize) -> Vec<(&[u8], u64)> {
    let mut all: Vec<_> = group.iter().collect();
    let compare = |a: &(&[u8], u64), b: &(&[u8], u64)| b.1.cmp(&a.1).then(a.0.cmp(b.0));
    if all.len() > k {
        all.select_nth_unstable_by(k, compare);
        all.truncate(k);
    }
    all.sort_unstable_by(compare);
    all
}

/// Null for groups without values.
fn nulls(groups: &[Counts]) -> Option<NullBuffer> {
    Some(groups.iter().map(|group| group.iter().len() > 0).collect())
}

fn top_fields(value: &DataType) -> Fields {
    fields([("value", value.clone()), ("count", DataType::Int64)])
}

fn map_fields(value: &DataType) -> Fields {
    Fields::from(vec![Field::new("key", value.clone(), false), Field::new("value", DataType::Int64, true)])
}

fn map_field(value: &DataType) -> Arc<Field> {
    Arc::new(Field::new("entries", DataType::Struct(map_fields(value)), false))
}

/// The columns of values and counts.
fn columns(values: &Records, entries: &[(&[u8], u64)]) -> Result<Vec<ArrayRef>> {
    let mut columns = values.decode(entries.iter().map(|entry| entry.0))?;
    columns.push(Arc::new(Int64Array::from_iter_values(entries.iter().map(|entry| bigint(entry.1)))));
    Ok(columns)
}

fn maps(groups: &[Counts], values: &Records, data_type: &DataType) -> Result<ArrayRef> {
    let entries: Vec<_> = groups.iter().flat_map(Counts::iter).collect();
    let entries = StructArray::try_new(map_fields(data_type), columns(values, &entries)?, None)?;
    let ends = offsets(groups.iter().map(|group| group.iter().len()))?;
    Ok(Arc::new(MapArray::try_new(map_field(data_type), ends, entries, nulls(groups), false)?))
}

fn tops(groups: &[Counts], values: &Records, data_type: &DataType, k: usize) -> Result<ArrayRef> {
    let tops: Vec<_> = groups.iter().map(|group| most_frequent(group, k)).collect();
    let columns = columns(values, &tops.concat())?;
    lists(&top_fields(data_type), tops.iter().map(Vec::len), columns, nulls(groups))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::conformance::{Argument, Call, answer, cases, query};
    use arrow::array::{Array, StringArray, UInt64Array};
    use arrow::util::display::array_value_to_string;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn words() -> Vec<(&'static str, ArrayRef)> {
        let words = [Some("b"), Some("a"), None, Some("b"), Some("c"), Some("a"), None];
        let n: ArrayRef = Arc::new(Int64Array::from_iter_values(0..7));
        vec![("w", Arc::new(StringArray::from_iter(words))), ("n", n)]
    }

    fn of_words(select: &str) -> Vec<String> {
        answer(&format!("SELECT {select} FROM t"), words()).unwrap()
    }

    fn refused(select: &str) -> String {
        answer(&format!("SELECT {select} FROM t"), words()).unwrap_err().to_string()
    }

    #[test]
    fn values_are_counted() {
        assert_eq!(of_words("count_by(w), mode(w)"), ["{a: 2, b: 2, c: 1} a"]);
        assert_eq!(of_words("count_by(n % 2) FILTER (WHERE n > 0)"), ["{0: 3, 1: 3}"]);
        assert_eq!(of_words("count_by(w) FILTER (WHERE w IS NULL), mode(n) FILTER (WHERE n > 9)"), [" "]);
        assert_eq!(of_words("count_by([n % 2 = 0, NULL])"), ["{[false, ]: 3, [true, ]: 4}"]);
    }

    #[test]
    fn the_most_frequent_come_first_and_among_equals_the_least() {
        assert_eq!(of_words("top_k(w, 2)"), ["[{value: a, count: 2}, {value: b, count: 2}]"]);
        let sql = "SELECT n % 2, top_k(w, 1) FROM t GROUP BY n % 2 ORDER BY 1";
        let found = answer(sql, words()).unwrap();
        assert_eq!(found, ["0 [{value: b, count: 1}]", "1 [{value: a, count: 2}]"]);
    }

    #[test]
    fn k_is_a_constant_within_bounds() {
        for call in
            ["top_k(w, 0)", "top_k(w, 10001)", "top_k(w, 'x')", "top_k(w, n)", "top_k(w, NULL)", "top_k(w)"]
        {
            assert!(refused(call).contains("k"), "{call}");
        }
    }

    #[test]
    fn dictionaries_are_counted_by_their_values() {
        let found = of_words("count_by(arrow_cast(w, 'Dictionary(Int32, Utf8)'))");
        assert_eq!(found, ["{a: 2, b: 2, c: 1}"]);
    }

    #[test]
    fn a_state_column_that_is_none_is_refused() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let call = Call::new(count_by(), vec![StringArray::from(vec!["a"]).into()], vec![0]);
        let other = Call::new(count_by(), vec![Int64Array::from(vec![1]).into()], vec![0]);
        let other = other.accumulator().unwrap().convert_to_state(&[Arc::clone(&column)], None).unwrap();
        for state in [column, Arc::clone(&other[0])] {
            let error = call.accumulator().unwrap().merge_batch(&[state], &[0], 1).unwrap_err();
            assert!(error.to_string().contains("state of count_by"), "{error}");
        }
    }

    #[test]
    fn weighted_forms_answer_like_the_plain_ones() {
        let plain = of_words("count_by(w), top_k(w, 2), mode(w)");
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("w", Arc::new(StringArray::from(vec![Some("c"), Some("b"), Some("a"), None, Some("b")]))),
            ("n", Arc::new(UInt64Array::from(vec![1, 1, 2, 2, 1]))),
        ];
        let functions = [weighted_count_by(), weighted_top_k(), weighted_mode()];
        let sql = "SELECT weighted_count_by(w, n), weighted_top_k(w, n, 2), weighted_mode(w, n) FROM t";
        let rows = query(sql, columns, &functions).unwrap();
        let cells: Vec<_> = rows.columns().iter().map(|c| array_value_to_string(c, 0).unwrap()).collect();
        assert_eq!([cells.join(" ")], plain.as_slice());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases()))]

        #[test]
        fn counts_are_those_of_plain_code_and_the_laws_hold(
            rows in proptest::collection::vec((proptest::option::of("[ab]{0,2}"), 0_usize..3), 1..40),
            seed in any::<u64>(),
        ) {
            let words: StringArray = rows.iter().map(|row| row.0.as_deref()).collect();
            let groups: Vec<usize> = rows.iter().map(|row| row.1).collect();
            let k = Argument::Constant(ScalarValue::from(2_i64));
            for (function, arguments) in [
                (count_by(), vec![words.clone().into()]),
                (top_k(), vec![words.clone().into(), k]),
                (mode(), vec![words.clone().into()]),
            ] {
                Call::new(function, arguments, groups.clone()).check(seed);
            }
            let maps = Call::new(count_by(), vec![words.into()], groups.clone()).values();
            for group in 0..maps.len() {
                let mut counts = BTreeMap::<&str, i64>::new();
                let words = rows.iter().filter(|row| row.1 == group).filter_map(|row| row.0.as_deref());
                words.for_each(|word| *counts.entry(word).or_default() += 1);
                let counts: Vec<String> = counts.iter().map(|(word, n)| format!("{word}: {n}")).collect();
                let expected = if counts.is_empty() { String::new() } else { format!("{{{}}}", counts.join(", ")) };
                prop_assert_eq!(array_value_to_string(&maps, group).unwrap(), expected);
            }
        }
    }
}
