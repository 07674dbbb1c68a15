//! What an answer is made of, for people.

use crate::text::columns;
use twofold_common::Coverage;

/// What an answer is made of, as lines.
pub(crate) fn coverage_lines(coverage: &[Coverage]) -> String {
    let row = |c: &Coverage| {
        vec![
            c.relation.clone(),
            c.stream.clone(),
            c.partition.to_string(),
            c.batch.to_string(),
            c.speed.to_string(),
        ]
    };
    let rows: Vec<_> = coverage.iter().map(row).collect();
    columns(&["relation", "stream", ">partition", "batch", "speed"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use twofold_common::{Offset, OffsetRange, Partition};

    #[test]
    fn coverage_has_a_line_for_each_partition() {
        let range = |start, end| [OffsetRange::new(Offset(start), Offset(end))];
        let one = |p, range: &[OffsetRange]| {
            Coverage::assemble("v", "flights", Partition(p), Offset(100), range).unwrap()
        };
        let lines = coverage_lines(&[one(0, &range(100, 120)), one(1, &[])]);
        insta::assert_snapshot!(lines, @r#"
        relation  stream   partition  batch     speed
        v         flights          0  [0, 100)  [100, 120)
        v         flights          1  [0, 100)  [100, 100)
        "#);
    }
}
