use super::*;
use crate::changes::steps::Steps;
use arrow::array::{Float64Array, Int64Array, StringArray};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Row = (Option<String>, i64, Option<f64>);

/// Rows of (name, n, x).
fn rows(of: &[Row]) -> Rows {
    let names: StringArray = of.iter().map(|row| row.0.clone()).collect();
    let numbers = Int64Array::from_iter_values(of.iter().map(|row| row.1));
    let floats: Float64Array = of.iter().map(|row| row.2).collect();
    let columns =
        [("name", Arc::new(names) as _), ("n", Arc::new(numbers) as _), ("x", Arc::new(floats) as _)];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap();
    Rows { schema: batch.schema(), batches: vec![batch], coverage: vec![], previous: false }
}

fn content(of: &[Row], key: Option<&[usize]>) -> Content {
    Content::of("v", rows(of), key.map(<[usize]>::to_vec)).unwrap()
}

/// What a client has: for each key as JSON, how often which row.
#[derive(Debug, Clone, Default, PartialEq)]
struct Client(BTreeMap<String, (usize, String)>);

impl Client {
    /// As it is told to: a row replaces that of its key, unless all columns are the key, when it is one more.
    fn apply(&mut self, step: &Difference, has_key: bool) {
        for key in &step.removed {
            let known = self.0.get_mut(key.as_ref()).expect("what is removed is there");
            known.0 -= 1;
            if known.0 == 0 || has_key {
                self.0.remove(key.as_ref());
            }
        }
        for (key, row) in &step.changed {
            let known = self.0.entry(key.to_string()).or_default();
            *known = (if has_key { 1 } else { known.0 + 1 }, row.to_string());
        }
    }

    fn of(content: &Content) -> Self {
        let empty =
            Content::of("v", Rows { batches: vec![], ..content.rows.clone() }, Some(content.key.clone()));
        let mut client = Client::default();
        client.apply(&empty.unwrap().difference(content).unwrap(), content.has_key());
        client
    }
}

fn row() -> impl Strategy<Value = Row> {
    let name = proptest::option::of("[abc]");
    let float = proptest::sample::select(vec![None, Some(f64::NAN), Some(0.0), Some(-0.0), Some(1.5)]);
    (name, 0i64..3, float)
}

/// Moments of a view, which has each name once if it has a key.
fn moments(has_key: bool) -> impl Strategy<Value = Vec<Vec<Row>>> {
    let moment = proptest::collection::vec(row(), 0..8).prop_map(move |mut rows| {
        if has_key {
            rows.sort_by(|a, b| a.0.cmp(&b.0));
            rows.dedup_by(|a, b| a.0 == b.0);
        }
        rows
    });
    proptest::collection::vec(moment, 1..8)
}

fn law_of_steps(moments: &[Vec<Row>], key: Option<&[usize]>, missed: &[usize]) {
    let contents: Vec<Content> = moments.iter().map(|rows| content(rows, key)).collect();
    let has_key = contents[0].has_key();
    assert_eq!(has_key, key.is_some());
    // One who gets every step, and one who misses some and then gets what they come to.
    let (mut every, mut slow) = (Client::of(&contents[0]), Client::of(&contents[0]));
    let (mut steps, mut behind) = (Steps::default(), 0);
    for (i, pair) in contents.windows(2).enumerate() {
        let step = pair[0].difference(&pair[1]).unwrap();
        every.apply(&step, has_key);
        assert_eq!(every, Client::of(&pair[1]));
        steps = steps.and(step, pair[1].rows.num_rows());
        behind += 1;
        if !missed.contains(&i) {
            // Of a key that came and went meanwhile, nothing is known.
            let mut together = steps.last(behind, has_key).unwrap();
            if has_key {
                together.removed.retain(|key| slow.0.contains_key(key.as_ref()));
            }
            slow.apply(&together, has_key);
            behind = 0;
            assert_eq!(slow, every);
        }
    }
}

proptest! {
    #[test]
    fn law_steps_by_key_lead_to_the_rows(
        moments in moments(true), missed in proptest::collection::vec(0usize..7, 0..5)
    ) {
        law_of_steps(&moments, Some(&[0]), &missed);
    }

    #[test]
    fn law_steps_of_a_bag_lead_to_the_rows(
        moments in moments(false), missed in proptest::collection::vec(0usize..7, 0..5)
    ) {
        law_of_steps(&moments, None, &missed);
    }
}

fn named(name: &str, n: i64) -> Row {
    (Some(name.into()), n, None)
}

#[test]
fn only_what_differs_is_told() {
    let old = content(&[named("a", 1), named("b", 1), named("c", 1)], Some(&[0]));
    let new = content(&[named("d", 1), named("c", 2), named("a", 1)], Some(&[0]));
    let step = old.difference(&new).unwrap();
    let changed: Vec<&str> = step.changed.iter().map(|(_, row)| row.as_ref()).collect();
    assert_eq!(changed, [r#"{"name":"c","n":2,"x":null}"#, r#"{"name":"d","n":1,"x":null}"#]);
    assert_eq!(step.removed, [Line::from(r#"{"name":"b"}"#)]);
    assert_eq!(new.difference(&new).unwrap(), Difference::default());
}

#[test]
fn a_view_of_one_row_has_the_empty_key() {
    let old = content(&[named("a", 1)], Some(&[]));
    let step = old.difference(&content(&[named("a", 2)], Some(&[]))).unwrap();
    assert_eq!(step.changed[0].0.as_ref(), "{}");
    assert!(old.key_names().is_empty() && step.removed.is_empty());
    let none = old.difference(&content(&[], Some(&[]))).unwrap();
    assert_eq!(none.removed, [Line::from("{}")]);
}

#[test]
fn a_key_that_json_cannot_tell_apart_is_none() {
    let of_float = content(&[(None, 0, Some(f64::NAN)), (None, 0, None)], Some(&[2]));
    assert_eq!((of_float.has_key(), of_float.key_names()), (false, vec!["name", "n", "x"]));
}

#[test]
fn two_rows_of_one_key_are_an_error() {
    let twice = Content::of("v", rows(&[named("a", 1), named("a", 2)]), Some(vec![0]));
    assert_eq!(twice.err().unwrap().to_string(), "internal error: two rows of view v have one key (name)");
}

#[test]
fn more_rows_than_are_held_are_refused() {
    let many: Vec<Row> = (0..=MAX_ROWS as i64).map(|n| (None, n, None)).collect();
    let message = Content::of("v", rows(&many), None).err().unwrap().to_string();
    assert!(message.contains("has 100001 rows") && message.contains("?column=value"), "{message}");
}

#[test]
fn steps_are_kept_while_they_are_shorter_than_the_rows() {
    let step = |n: usize| Difference {
        removed: (0..n).map(|i| Line::from(format!("{{\"a\":{i}}}"))).collect(),
        ..Difference::default()
    };
    let steps = Steps::default().and(step(400), 10).and(step(400), 10);
    assert!(steps.last(2, true).is_some() && steps.last(3, true).is_none());
    let steps = steps.and(step(400), 10);
    assert!(steps.last(2, true).is_some() && steps.last(3, true).is_none(), "1000 lines are kept at least");
    assert!(steps.and(step(1200), 5000).last(3, true).is_some());
    assert!(steps.and(step(9000), 5000).last(1, true).is_none());
}
