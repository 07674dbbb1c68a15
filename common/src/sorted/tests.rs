use super::groups::{Keys, groups};
use crate::key_order::are_sorted;
use crate::{State, StateTable, session};
use arrow::array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    StructArray, TimestampNanosecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::physical_plan::displayable;
use proptest::prelude::*;
use std::sync::Arc;

type Row = (Option<u8>, i64, Option<i64>);

fn schema() -> SchemaRef {
    let time = DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, None);
    let window = DataType::Struct(vec![Field::new("start", time, true)].into());
    Arc::new(Schema::new(vec![
        Field::new("k0", DataType::Utf8, true),
        Field::new("k1", window, true),
        Field::new("s0", DataType::Int64, true),
    ]))
}

/// A state with these keys; of equal ones, the first.
fn state(mut rows: Vec<Row>) -> State {
    rows.sort();
    rows.dedup_by_key(|row| (row.0, row.1));
    let names: StringArray = rows.iter().map(|row| row.0.map(|k| format!("key {k}"))).collect();
    let starts: TimestampNanosecondArray = rows.iter().map(|row| (row.1 > 0).then_some(row.1)).collect();
    let field = Arc::new(Field::new("start", starts.data_type().clone(), true));
    let windows = StructArray::from(vec![(field, Arc::new(starts) as ArrayRef)]);
    let sums: Int64Array = rows.iter().map(|row| row.2).collect();
    let batch = RecordBatch::try_new(schema(), vec![Arc::new(names), Arc::new(windows), Arc::new(sums)]);
    State::from_rows(&schema(), 2, &[batch.unwrap()]).unwrap()
}

/// The answer over states in order, over the same rows sorted in a plain table, and whether the former was grouped in
/// order; states whose order is nobody's have the same rows.
async fn answers(sql: &str, batches: &[RecordBatch]) -> (String, String, bool) {
    let session = session();
    let whole = State::from_rows(&schema(), 2, batches).unwrap().batch().clone();
    let ordered = StateTable::new(schema(), 2, batches.to_vec()).in_order();
    let states = StateTable::new(schema(), 2, batches.to_vec());
    let plain = MemTable::try_new(schema(), vec![vec![whole]]).unwrap();
    session.register_table("states", Arc::new(states)).unwrap();
    session.register_table("ordered", Arc::new(ordered)).unwrap();
    session.register_table("plain", Arc::new(plain)).unwrap();
    let mut told = Vec::new();
    let mut sorted = false;
    for table in ["states", "ordered", "plain"] {
        let plan = session.sql(&sql.replace("FROM t", &format!("FROM {table}"))).await.unwrap();
        let physical = plan.clone().create_physical_plan().await.unwrap();
        let plan_text = displayable(physical.as_ref()).indent(false).to_string();
        let rows = plan.collect().await.unwrap();
        let mut lines: Vec<String> =
            pretty_format_batches(&rows).unwrap().to_string().lines().map(str::to_string).collect();
        let is_sorted = plan_text.contains("SortedAggregateExec");
        match table {
            "states" => sorted = is_sorted,
            "ordered" => assert_eq!(is_sorted, sorted),
            _ => assert!(!is_sorted, "{plan_text}"),
        }
        if table == "states" {
            // Their order is nobody's.
            lines.sort();
            told.push(lines.join("\n"));
            continue;
        }
        told.push(lines.join("\n"));
        lines.sort();
        assert_eq!(told[0], lines.join("\n"), "{sql}");
    }
    let plain = told.pop().unwrap();
    (told.pop().unwrap(), plain, sorted)
}

const BY_KEY: &str = "SELECT k0, k1, count(*) AS n, sum(s0) AS s, max(s0) AS m FROM t GROUP BY k0, k1";
const SORTED: &[&str] = &[
    BY_KEY,
    "SELECT count(*) AS n, k1, min(s0) AS m, k0 FROM t GROUP BY k1, k0",
    "SELECT k0, count(s0) AS n, sum(s0) AS s FROM t GROUP BY k0",
    "SELECT k0, count(s0) AS n FROM t WHERE k1['start'] >= TIMESTAMP '1970-01-01 00:00:00.000000003' GROUP BY k0",
    "SELECT k0, sum(s0 + 1) AS s FROM t WHERE s0 > 3 OR k0 IS NULL GROUP BY k0 HAVING count(*) > 1",
    "SELECT a, sum(b) AS s FROM (SELECT k0 AS a, s0 AS b FROM t) GROUP BY a ORDER BY a LIMIT 3",
    "SELECT DISTINCT k0 FROM t",
];
const NOT_SORTED: &[&str] = &[
    "SELECT k1, count(*) AS n FROM t GROUP BY k1",
    "SELECT s0, count(*) AS n FROM t GROUP BY s0",
    "SELECT k0 || 'x' AS k, count(*) AS n FROM t GROUP BY 1",
    "SELECT k0, count(DISTINCT s0) AS n, sum(s0) AS s FROM t GROUP BY k0",
    "SELECT count(*) AS n FROM t",
    "SELECT k0, k1, sum(s0) AS s FROM t GROUP BY ROLLUP (k0, k1)",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn an_aggregate_over_states_is_that_by_hashing(
        states in proptest::collection::vec(
            proptest::collection::vec(
                (proptest::option::weighted(0.9, 0u8..12), 0i64..6, proptest::option::of(0i64..9)), 0..60),
            0..7),
        // Cut into pieces, as files are read.
        piece in 1usize..40,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut batches = Vec::new();
        for rows in states {
            let batch = state(rows).batch().clone();
            for at in (0..batch.num_rows()).step_by(piece) {
                batches.push(batch.slice(at, piece.min(batch.num_rows() - at)));
            }
        }
        for sql in SORTED {
            let (found, expected, sorted) = runtime.block_on(answers(sql, &batches));
            prop_assert!(sorted, "{}", sql);
            prop_assert_eq!(found, expected, "{}", sql);
        }
    }
}

/// A row of keys: a text, a window that may be null or begin at no time, a truth, a sum.
type KeyRow = (Option<String>, Option<Option<i64>>, Option<bool>, Option<i128>);

fn keys_of(rows: &[KeyRow]) -> RecordBatch {
    let texts: StringArray = rows.iter().map(|row| row.0.clone()).collect();
    let starts: TimestampNanosecondArray = rows.iter().map(|row| row.1.flatten()).collect();
    let valid = NullBuffer::from_iter(rows.iter().map(|row| row.1.is_some()));
    let fields = vec![Field::new("start", starts.data_type().clone(), true)].into();
    let windows = StructArray::new(fields, vec![Arc::new(starts)], Some(valid));
    let truths: BooleanArray = rows.iter().map(|row| row.2).collect();
    let sums: Decimal128Array = rows.iter().map(|row| row.3).collect();
    let columns: [ArrayRef; 4] = [Arc::new(texts), Arc::new(windows), Arc::new(truths), Arc::new(sums)];
    RecordBatch::try_from_iter_with_nullable(
        ["k0", "k1", "k2", "k3"].into_iter().zip(columns).map(|(n, c)| (n, c, true)),
    )
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn rows_are_sorted_if_their_encoding_is(
        mut rows in proptest::collection::vec(
            (
                proptest::option::of("[ab]{0,2}"),
                proptest::option::of(proptest::option::of(-1i64..2)),
                proptest::option::of(proptest::bool::ANY),
                proptest::option::of(-1i128..2),
            ), 0..6),
        swapped in proptest::option::of((0usize..6, 0usize..6)),
        cut in 0usize..6,
    ) {
        let encoded = |rows: &[KeyRow]| -> Vec<Vec<u8>> {
            let encoded = crate::state::encode(&keys_of(rows), 4).unwrap();
            encoded.iter().map(|row| row.data().to_vec()).collect()
        };
        rows.sort_by_key(|row| encoded(std::slice::from_ref(row)));
        if let Some((i, j)) = swapped && i.max(j) < rows.len() {
            rows.swap(i, j);
        }
        let all = keys_of(&rows);
        let cut = cut.min(rows.len());
        let batches = [all.slice(0, cut), all.slice(0, 0), all.slice(cut, rows.len() - cut)];
        prop_assert_eq!(are_sorted(4, &batches).unwrap(), encoded(&rows).is_sorted());
    }
}

#[test]
fn numbers_with_several_forms_are_not_compared() {
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![-0.0, 0.0]));
    assert!(!are_sorted(1, &[RecordBatch::try_from_iter([("k0", numbers)]).unwrap()]).unwrap());
}

#[tokio::test]
async fn what_is_not_in_the_order_of_states_is_left_to_the_engine() {
    let batches =
        [state(vec![(Some(1), 1, Some(1)), (Some(1), 2, None), (None, 1, Some(5))]).batch().clone()];
    for sql in NOT_SORTED {
        let (found, expected, sorted) = answers(sql, &batches).await;
        assert!(!sorted, "{sql}");
        // COUNT(DISTINCT) groups twice, the first time by its value too.
        assert_eq!(found, expected, "{sql}");
    }
}

#[tokio::test]
async fn groups_come_in_the_order_of_their_keys() {
    let many = |from: i64| state((0..500).map(|i| (Some((i % 200) as u8), from + i, Some(i))).collect());
    let session = session();
    let batches = vec![many(1).batch().clone(), many(201).batch().clone()];
    session.register_table("t", Arc::new(StateTable::new(schema(), 2, batches.clone()))).unwrap();
    let rows = session.sql(BY_KEY).await.unwrap().collect().await.unwrap();
    let all = arrow::compute::concat_batches(rows[0].schema_ref(), &rows).unwrap();
    let keys = all.project(&[0, 1]).unwrap();
    let encoded = crate::state::encode(&keys, 2).unwrap();
    assert!((1..keys.num_rows()).all(|i| encoded.row(i - 1) < encoded.row(i)));
    assert_eq!(keys.num_rows(), 700);
}

#[test]
fn pieces_of_one_state_follow_each_other_and_others_are_walked_beside_them() {
    let keys = |numbers: &[i64]| {
        let column: ArrayRef = Arc::new(Int64Array::from(numbers.to_vec()));
        Keys::new(vec![column], numbers.len(), true).unwrap()
    };
    let found = groups(&[keys(&[1, 3]), keys(&[5, 7]), keys(&[0, 3, 7, 9]), keys(&[3])]).unwrap();
    let found = found.unwrap();
    assert_eq!(found.of, [vec![1, 2], vec![3, 4], vec![0, 2, 4, 5], vec![2]]);
    assert_eq!(found.firsts, [(2, 0), (0, 0), (0, 1), (1, 0), (1, 1), (2, 3)]);
    assert_eq!(groups(&[]).unwrap().unwrap().firsts, []);
    // As they are seen first: 1 3, 5 7, 0 9, and none that is new.
    let mut found = found;
    assert_eq!(found.renumber(), (vec![2, 4, 6, 6], Some(vec![4, 0, 1, 2, 3, 5])));
    assert_eq!(found.of, [vec![0, 1], vec![2, 3], vec![4, 1, 3, 5], vec![1]]);
    // One after the other there may be any number, beside each other not.
    let one: Vec<Keys> = (0..99).map(|i| keys(&[i])).collect();
    assert_eq!(groups(&one).unwrap().unwrap().renumber(), ((1..=99).collect(), None));
    let many: Vec<Keys> = (0..5).map(|_| keys(&[1, 2])).collect();
    assert_eq!(groups(&many).unwrap(), None);
}

#[test]
fn keys_end_where_the_next_begins_however_long_they_are() {
    let numbers = |lengths: &[usize]| -> Vec<i64> {
        lengths.iter().enumerate().flat_map(|(key, n)| vec![key as i64; *n]).collect()
    };
    for lengths in
        [&[1, 1, 1][..], &[5], &[2, 700, 1, 3, 64, 65, 1], &[128, 1], &[1, 127], &[3, 4, 5, 6, 7, 8, 9]]
    {
        let numbers = numbers(lengths);
        let column: ArrayRef = Arc::new(Int64Array::from(numbers.clone()));
        let found = groups(&[Keys::new(vec![column], numbers.len(), false).unwrap()]).unwrap().unwrap();
        assert_eq!(found.of[0].iter().map(|group| *group as i64).collect::<Vec<_>>(), numbers);
        assert_eq!(found.firsts.len(), lengths.len());
    }
}
