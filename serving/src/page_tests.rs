use super::*;
use arrow::array::{AsArray, Int64Array, StringArray};
use arrow::datatypes::Int64Type;
use std::sync::Arc;

/// Names and numbers, with ties, nulls, and rows that are equal throughout.
fn rows(rows: &[(&str, Option<i64>)]) -> Rows {
    let names = StringArray::from_iter_values(rows.iter().map(|r| r.0));
    let numbers: Int64Array = rows.iter().map(|r| r.1).collect();
    let columns = [("name", Arc::new(names) as _), ("n", Arc::new(numbers) as _)];
    let all = RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap();
    let half = all.num_rows() / 2;
    let batches = vec![all.slice(0, half), all.slice(half, all.num_rows() - half)];
    Rows { schema: all.schema(), batches, coverage: vec![], previous: false }
}

fn read(rows: &Rows) -> Vec<(String, Option<i64>)> {
    let of_batch = |batch: &RecordBatch| {
        let names = batch.column(0).as_string::<i32>().iter().map(|n| n.unwrap().to_string());
        names.zip(batch.column(1).as_primitive::<Int64Type>().iter()).collect::<Vec<_>>()
    };
    rows.batches.iter().flat_map(of_batch).collect()
}

fn query(order: &str, limit: usize, cursor: Option<String>) -> ViewQuery {
    ViewQuery { order: Some(order.into()), limit: Some(limit), cursor, ..ViewQuery::default() }
}

const ROWS: [(&str, Option<i64>); 9] = [
    ("b", Some(1)),
    ("a", None),
    ("c", Some(2)),
    ("a", Some(1)),
    ("b", Some(1)),
    ("b", Some(1)),
    ("d", Some(3)),
    ("a", None),
    ("e", Some(1)),
];

#[test]
fn pages_of_any_size_are_the_rows_in_order_each_once() {
    for order in ["n", "n.desc", "n.nullsfirst,name.desc", "name.desc"] {
        let whole = page(rows(&ROWS), "v", None, &query(order, 100, None)).unwrap();
        assert_eq!(whole.cursor, None);
        let whole = read(&whole.rows);
        for limit in 1..=ROWS.len() {
            let (mut all, mut cursor, mut pages) = (Vec::new(), None, 0);
            loop {
                // A view gives its rows in another order each time.
                let mut moved = ROWS;
                moved.rotate_left(pages);
                let next = page(rows(&moved), "v", None, &query(order, limit, cursor)).unwrap();
                pages += 1;
                assert!(next.rows.num_rows() == limit || next.cursor.is_none());
                all.extend(read(&next.rows));
                cursor = next.cursor;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!((all, pages), (whole.clone(), ROWS.len().div_ceil(limit)), "{order}, {limit}");
        }
    }
    let ascending = page(rows(&ROWS), "v", None, &query("n,name.desc", 2, None)).unwrap();
    assert_eq!(read(&ascending.rows), [("e".to_string(), Some(1)), ("b".to_string(), Some(1))]);
    let nulls = page(rows(&ROWS), "v", None, &query("n.desc", 1, None)).unwrap();
    assert_eq!(read(&nulls.rows), [("a".to_string(), None)]);
}

#[test]
fn a_row_that_changes_behind_the_cursor_is_not_shown_again() {
    let key = Some([0].as_slice());
    let first =
        page(rows(&[("a", Some(1)), ("b", Some(1)), ("c", Some(1))]), "v", key, &query("name", 1, None));
    let cursor = first.unwrap().cursor;
    // Where all columns settled ties, the row with a greater value would come after the cursor.
    let now = rows(&[("a", Some(9)), ("b", Some(1)), ("c", Some(1))]);
    let second = page(now, "v", key, &query("name", 2, cursor.clone())).unwrap();
    assert_eq!(read(&second.rows), [("b".to_string(), Some(1)), ("c".to_string(), Some(1))]);
    // Nor does it matter that the row at the cursor is gone.
    let now = rows(&[("b", Some(1)), ("c", Some(1))]);
    assert_eq!(page(now, "v", key, &query("name", 2, cursor)).unwrap().rows.num_rows(), 2);
}

#[test]
fn a_cursor_is_taken_for_what_it_was_given_only() {
    let cursor = page(rows(&ROWS), "v", None, &query("n", 1, None)).unwrap().cursor;
    let told = |view: &str, query: ViewQuery| page(rows(&ROWS), view, None, &query).unwrap_err().to_string();
    assert!(told("v", query("n.desc", 1, cursor.clone())).contains("another order"));
    assert!(told("w", query("n", 1, cursor.clone())).contains("another order"));
    let filtered = ViewQuery { filters: vec![("n".into(), "1".into())], ..query("n", 1, cursor.clone()) };
    assert!(told("v", filtered).contains("other filters"));
    for wrong in ["", "0", "xyz", "00", "0000000000000000"] {
        assert!(told("v", query("n", 1, Some(wrong.into()))).contains("cursor: "), "{wrong}");
    }
    let bare = ViewQuery { cursor, ..ViewQuery::default() };
    assert!(told("v", bare).contains("give `order`"));
}

#[test]
fn no_rows_have_no_cursor() {
    let none = page(rows(&[]), "v", None, &query("n", 3, None)).unwrap();
    assert_eq!((none.rows.num_rows(), none.cursor), (0, None));
    let zero = page(rows(&ROWS), "v", None, &query("n", 0, None)).unwrap();
    assert_eq!((zero.rows.num_rows(), zero.cursor), (0, None));
}
