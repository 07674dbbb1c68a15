//! Finality: how far event time has come in what an answer covers, and which windows are final there.
//!
//! ```text
//! watermark(answer) = least of the watermarks of the partitions of its streams, without those that are idle
//!                     (all are idle: the greatest)
//! is_final(window)  = window.end <= watermark(answer)
//! ```
//!
//! The watermark of a partition is a function of the events below an offset. A partition without one (its stream
//! declares none, or no event has come yet) holds back all: nothing is final then, and nothing in an answer that
//! reads no stream. Final is a statement about what should still come, not about what is counted: an event that is
//! late for its window changes the window all the same.
//!
//! It does not promise that what is final stays so where streams have an idle timeout: when a partition that was idle
//! wakes up, its watermark counts again.

use crate::error::Result;
use crate::offset::Partition;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use chrono::{DateTime, SecondsFormat, Utc};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How far event time has come in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionWatermark {
    /// The stream.
    pub stream: String,
    /// The partition.
    pub partition: Partition,
    /// The watermark of what the answer covers of it: nanoseconds since the epoch, UTC.
    pub watermark: Option<i64>,
    /// Whether nothing has come for as long as the stream's idle timeout.
    pub idle: bool,
}

/// The watermark of partitions together, given the watermark of each and whether it is idle.
pub fn least_watermark(partitions: impl IntoIterator<Item = (Option<i64>, bool)>) -> Option<i64> {
    let (mut least, mut of_idle) = (None, None);
    for (watermark, idle) in partitions {
        if idle {
            of_idle = of_idle.max(watermark);
        } else {
            // No watermark is less than any.
            least = Some(least.map_or(watermark, |least: Option<i64>| least.min(watermark)));
        }
    }
    least.unwrap_or(of_idle)
}

/// Nanoseconds since the epoch as RFC 3339, UTC.
pub fn rfc3339(nanoseconds: i64) -> String {
    DateTime::<Utc>::from_timestamp_nanos(nanoseconds).to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// A time as RFC 3339, or nothing.
pub(crate) mod optional_time {
    use super::{DateTime, rfc3339};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(time: &Option<i64>, s: S) -> Result<S::Ok, S::Error> {
        time.map(rfc3339).serialize(s)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<i64>, D::Error> {
        let Some(text) = Option::<String>::deserialize(d)? else { return Ok(None) };
        let time = DateTime::parse_from_rfc3339(&text).map_err(D::Error::custom)?;
        let out_of_range = || D::Error::custom(format!("{text} is not between the years 1677 and 2262"));
        time.timestamp_nanos_opt().ok_or_else(out_of_range).map(Some)
    }
}

/// The name of the function that tells whether a window is final.
const IS_FINAL: &str = "is_final";

/// The function `is_final`: of a window (a struct with a timestamp `end`) or of the timestamp itself.
///
/// It is about the moment of an answer, so it stands for nothing until [`decide`] has told it the answer's watermark;
/// and it is not immutable, so that a maintained view cannot use it.
pub(crate) fn function() -> ScalarUDF {
    of(None)
}

fn of(watermark: Option<Option<i64>>) -> ScalarUDF {
    let signature = Signature::user_defined(Volatility::Stable);
    ScalarUDF::new_from_impl(IsFinal { signature, watermark })
}

/// `plan` with every `is_final` in it, its subqueries included, told the watermark of the answer.
pub fn decide(plan: LogicalPlan, watermark: Option<i64>) -> Result<LogicalPlan> {
    let decided = Arc::new(of(Some(watermark)));
    let decided = plan.transform_up_with_subqueries(|node| {
        node.map_expressions(|expr| {
            expr.transform_up(|expr| match expr {
                Expr::ScalarFunction(mut call) if call.func.inner().is::<IsFinal>() => {
                    // Of the same name, so that no column is called otherwise.
                    call.func = Arc::clone(&decided);
                    Ok(Transformed::yes(Expr::ScalarFunction(call)))
                }
                other => Ok(Transformed::no(other)),
            })
        })
    })?;
    Ok(decided.data)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct IsFinal {
    signature: Signature,
    /// The watermark of the answer, once there is an answer.
    watermark: Option<Option<i64>>,
}

impl ScalarUDFImpl for IsFinal {
    fn name(&self) -> &str {
        IS_FINAL
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> EngineResult<Vec<DataType>> {
        match types {
            [DataType::Null] => Ok(vec![DataType::Timestamp(TimeUnit::Nanosecond, None)]),
            [one] if end_type(one).is_some() => Ok(types.to_vec()),
            [one] => plan_err!(
                "is_final takes a window (a struct with a timestamp named end) or the timestamp at which it ends, not {}",
                crate::sql_type(one)
            ),
            _ => plan_err!("is_final takes one argument, a window; found {}", types.len()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let Some(watermark) = self.watermark else {
            return exec_err!(
                "is_final is about an answer of Twofold: ask through `twofold query` or the server"
            );
        };
        let windows = args.args[0].to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(Arc::new(finals(&windows, watermark)?)))
    }
}

/// The type of the end of a window of this type, if that is a timestamp.
fn end_type(window: &DataType) -> Option<&DataType> {
    let end = match window {
        DataType::Struct(fields) => fields.find("end")?.1.data_type(),
        other => other,
    };
    matches!(end, DataType::Timestamp(_, _)).then_some(end)
}

/// For each window whether it ends at or before the watermark; null for null.
fn finals(windows: &ArrayRef, watermark: Option<i64>) -> EngineResult<BooleanArray> {
    let nothing = || exec_err!("is_final: {} has no end", windows.data_type());
    let Some(DataType::Timestamp(unit, _)) = end_type(windows.data_type()) else { return nothing() };
    let ends = match windows.as_struct_opt() {
        Some(all) => all.column_by_name("end").map(Arc::clone),
        None => Some(Arc::clone(windows)),
    };
    let Some(ends) = ends else { return nothing() };
    let nanoseconds: i128 = match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    };
    let numbers = cast(&ends, &DataType::Int64)?;
    let is_final = |end: i64| watermark.is_some_and(|at| i128::from(end) * nanoseconds <= i128::from(at));
    let of_row = |(row, end): (usize, Option<i64>)| end.filter(|_| windows.is_valid(row)).map(is_final);
    Ok(numbers.as_primitive::<Int64Type>().iter().enumerate().map(of_row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine;
    use arrow::array::{StructArray, TimestampMillisecondArray, TimestampSecondArray};
    use arrow::buffer::NullBuffer;
    use arrow::datatypes::Field;

    #[test]
    fn the_least_counts_and_an_idle_partition_does_not() {
        let least = |parts: &[(Option<i64>, bool)]| least_watermark(parts.iter().copied());
        assert_eq!(least(&[(Some(7), false), (Some(3), false)]), Some(3));
        assert_eq!(least(&[(Some(7), false), (None, false)]), None);
        assert_eq!(least(&[(Some(7), false), (None, true), (Some(3), true)]), Some(7));
        assert_eq!(least(&[(Some(2), true), (Some(3), true), (None, true)]), Some(3));
        assert_eq!(least(&[(None, true), (None, false)]), None);
        assert_eq!(least(&[]), None);
    }

    fn told(ends: ArrayRef, watermark: Option<i64>) -> Vec<Option<bool>> {
        finals(&ends, watermark).unwrap().iter().collect()
    }

    #[test]
    fn a_window_is_final_from_its_end_on() {
        let ends: ArrayRef =
            Arc::new(TimestampMillisecondArray::from(vec![Some(999), Some(1000), Some(1001), None]));
        let at = 1_000_000_000;
        assert_eq!(told(Arc::clone(&ends), Some(at)), [Some(true), Some(true), Some(false), None]);
        assert_eq!(told(Arc::clone(&ends), Some(at - 1)), [Some(true), Some(false), Some(false), None]);
        assert_eq!(told(ends, None), [Some(false), Some(false), Some(false), None]);
        // Ends that nanoseconds cannot count.
        let far: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX, i64::MIN]));
        assert_eq!(told(far, Some(i64::MAX)), [Some(false), Some(true)]);
    }

    #[test]
    fn a_window_that_is_null_has_no_answer() {
        let ends: ArrayRef = Arc::new(TimestampSecondArray::from(vec![1, 1]));
        let field = Arc::new(Field::new("end", ends.data_type().clone(), true));
        let nulls = NullBuffer::from(vec![true, false]);
        let windows = StructArray::new(vec![field].into(), vec![ends], Some(nulls));
        assert_eq!(told(Arc::new(windows), Some(i64::MAX)), [Some(true), None]);
    }

    async fn answer(sql: &str, watermark: Option<i64>) -> Result<Vec<Option<bool>>> {
        let session = engine::session();
        let plan = engine::state(&session).create_logical_plan(sql).await?;
        let batches = session.execute_logical_plan(decide(plan, watermark)?).await?.collect().await?;
        Ok(batches.iter().flat_map(|b| b.column(0).as_boolean().iter().collect::<Vec<_>>()).collect())
    }

    #[tokio::test]
    async fn it_is_decided_wherever_it_stands_in_a_query() {
        let window =
            "named_struct('start', TIMESTAMP '1970-01-01 00:00:00', 'end', TIMESTAMP '1970-01-01 00:00:01')";
        let (before, at) = (Some(999_999_999), Some(1_000_000_000));
        for sql in [
            format!("SELECT is_final({window})"),
            "SELECT is_final(TIMESTAMP '1970-01-01 00:00:01')".to_string(),
            format!("SELECT (SELECT bool_and(is_final(w)) FROM (SELECT {window} AS w))"),
            format!(
                "SELECT true FROM (SELECT {window} AS w) WHERE is_final(w) UNION ALL SELECT false WHERE NOT is_final({window})"
            ),
        ] {
            assert_eq!(answer(&sql, before).await.unwrap(), [Some(false)], "{sql}");
            assert_eq!(answer(&sql, at).await.unwrap(), [Some(true)], "{sql}");
            assert_eq!(answer(&sql, None).await.unwrap(), [Some(false)], "{sql}");
        }
        assert_eq!(answer("SELECT is_final(NULL)", at).await.unwrap(), [None]);
    }

    #[tokio::test]
    async fn what_is_no_window_is_refused() {
        for (sql, reason) in [
            ("SELECT is_final(1)", "takes a window (a struct with a timestamp named end)"),
            ("SELECT is_final(named_struct('end', 1))", "takes a window"),
            ("SELECT is_final()", "is_final"),
        ] {
            let error = answer(sql, None).await.unwrap_err().to_string();
            assert!(error.contains(reason), "{sql}: {error}");
        }
    }

    #[test]
    fn a_time_comes_back_from_its_text() {
        #[derive(Serialize, Deserialize)]
        struct Timed(#[serde(with = "optional_time")] Option<i64>);
        for time in [None, Some(0), Some(1_357_034_400_000_000_001), Some(-1), Some(i64::MAX), Some(i64::MIN)]
        {
            let text = serde_json::to_string(&Timed(time)).unwrap();
            assert_eq!(serde_json::from_str::<Timed>(&text).unwrap().0, time, "{text}");
        }
        assert!(serde_json::from_str::<Timed>("\"9999-01-01T00:00:00Z\"").is_err());
    }
}
