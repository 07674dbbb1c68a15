//! Which events a filter leaves, as far as it speaks of their partition and offset.
//!
//! ```text
//! left_by(filters)  contains  the place of every event that passes all of them
//! ```
//!
//! Comparisons of `_partition` or `_offset` with an integer narrow it; all else leaves it as it is.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use twofold_common::stream::{OFFSET, PARTITION};
use twofold_common::{OffsetRange, Partition};

/// Partitions and offsets, each as the least and the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    partitions: (i128, i128),
    offsets: (i128, i128),
}

impl Places {
    const ALL: Places = Places { partitions: (i128::MIN, i128::MAX), offsets: (i128::MIN, i128::MAX) };

    /// Whether a filter narrows anything.
    pub(crate) fn are_told_by(filter: &Expr) -> bool {
        comparison(filter).is_some()
    }

    /// What all `filters` together leave.
    pub(crate) fn left_by(filters: &[Expr]) -> Self {
        let mut places = Places::ALL;
        for (column, op, value) in filters.iter().filter_map(comparison) {
            let range = if column == OFFSET { &mut places.offsets } else { &mut places.partitions };
            let (least, greatest) = match op {
                Operator::Eq => (value, value),
                Operator::Gt => (value + 1, i128::MAX),
                Operator::GtEq => (value, i128::MAX),
                Operator::Lt => (i128::MIN, value - 1),
                _ => (i128::MIN, value),
            };
            *range = (range.0.max(least), range.1.min(greatest));
        }
        places
    }

    /// Whether an event of this range may be among them.
    pub(crate) fn may_hold(&self, partition: Partition, range: OffsetRange) -> bool {
        let (partition, (first, end)) = (i128::from(partition.0), (range.start.0, range.end.0));
        (self.partitions.0..=self.partitions.1).contains(&partition)
            && self.offsets.0 < i128::from(end)
            && i128::from(first) <= self.offsets.1
    }
}

/// `column op integer`, with the column of a place on the left.
fn comparison(filter: &Expr) -> Option<(&str, Operator, i128)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return None };
    let (column, op, value) = match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), Expr::Literal(value, _)) => (column, *op, value),
        (Expr::Literal(value, _), Expr::Column(column)) => (column, op.swap()?, value),
        _ => return None,
    };
    let known = [OFFSET, PARTITION].contains(&column.name.as_str());
    let ordered = matches!(op, Operator::Eq | Operator::Gt | Operator::GtEq | Operator::Lt | Operator::LtEq);
    (known && ordered).then_some((column.name.as_str(), op, integer(value)?))
}

fn integer(value: &ScalarValue) -> Option<i128> {
    match *value {
        ScalarValue::Int32(value) => value.map(i128::from),
        ScalarValue::Int64(value) => value.map(i128::from),
        ScalarValue::UInt64(value) => value.map(i128::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;
    use datafusion::logical_expr::{col, lit};
    use twofold_common::{Kind, Offset};

    #[test]
    fn filters_narrow_places_and_never_leave_one_out_that_passes() {
        type Compare<T, R> = fn(T, T) -> R;
        let comparisons: [(Compare<Expr, Expr>, Compare<i64, bool>); 5] = [
            (Expr::eq, |a, b| a == b),
            (Expr::gt, |a, b| a > b),
            (Expr::gt_eq, |a, b| a >= b),
            (Expr::lt, |a, b| a < b),
            (Expr::lt_eq, |a, b| a <= b),
        ];
        for (compare, holds) in comparisons {
            for value in 0..6i64 {
                let range = OffsetRange::new(Offset(2), Offset(4));
                let some = (2..4).any(|offset| holds(offset, value));
                let by_offset = Places::left_by(&[compare(col(OFFSET), lit(value))]);
                assert_eq!(by_offset.may_hold(Partition(0), range), some, "{by_offset:?} {value}");
                let swapped = Places::left_by(&[compare(lit(value), col(OFFSET))]);
                assert_eq!(swapped.may_hold(Partition(0), range), (2..4).any(|o| holds(value, o)));
                let by_partition = Places::left_by(&[compare(col(PARTITION), lit(value as i32))]);
                assert_eq!(by_partition.may_hold(Partition(3), range), holds(3, value));
            }
        }
        let others = [col(OFFSET).not_eq(lit(3i64)), col("n").gt(lit(9i64)), col(OFFSET).gt(col("n"))];
        assert_eq!(Places::left_by(&others), Places::ALL);
        assert!(!others.iter().any(Places::are_told_by));
    }

    #[tokio::test]
    async fn only_segments_that_may_hold_such_events_are_read() {
        let world = World::new().await;
        world.archive_to([8, 8]).await;
        world.archive_to([16, 16]).await;
        let segments = world.archive.manifest("flights").await.unwrap().unwrap().body.segments;
        world.store.delete(&segments[&Partition(0)][0].path).await.unwrap();
        let serving = world.serving();
        let count = async |filter: &str| {
            let sql = format!("SELECT carrier, _offset FROM flights WHERE {filter}");
            serving.query(&sql).await.map(|rows| rows.num_rows())
        };
        assert_eq!(count("_partition = 0 AND _offset >= 8 AND _offset < 16").await.unwrap(), 8);
        assert_eq!(count("_partition = 1 AND _offset BETWEEN 3 AND 9").await.unwrap(), 7);
        for missing in ["_partition = 0 AND _offset >= 7", "_offset < 9", "_offset >= 8 OR _partition = 0"] {
            assert_eq!(count(missing).await.unwrap_err().kind(), Kind::Corrupt, "{missing}");
        }
    }
}
