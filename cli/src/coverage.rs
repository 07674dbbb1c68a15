//! What an answer is made of, for people.

use crate::text::columns;
use twofold_common::{Coverage, least_watermark, rfc3339};

/// What an answer is made of, as lines, and the watermark of it all.
pub(crate) fn coverage_lines(coverage: &[Coverage]) -> String {
    let row = |c: &Coverage| {
        vec![
            c.relation.clone(),
            c.stream.clone(),
            c.partition.to_string(),
            c.batch.to_string(),
            c.speed.to_string(),
            watermark(c.watermark, c.idle),
        ]
    };
    let rows: Vec<_> = coverage.iter().map(row).collect();
    let all = least_watermark(coverage.iter().map(|c| (c.watermark, c.idle)));
    let table = columns(&["relation", "stream", ">partition", "batch", "speed", "watermark"], &rows);
    match all {
        Some(at) => format!("{table}watermark of the answer: {}\n", rfc3339(at)),
        None => table,
    }
}

fn watermark(watermark: Option<i64>, idle: bool) -> String {
    let text = watermark.map_or_else(|| "-".to_string(), rfc3339);
    if idle { text + " (idle)" } else { text }
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
        let mut parts = [one(0, &range(100, 120)), one(1, &[])];
        parts[0].watermark = Some(1_500_000_000);
        parts[1].idle = true;
        let lines = coverage_lines(&parts);
        insta::assert_snapshot!(lines, @r#"
        relation  stream   partition  batch     speed       watermark
        v         flights          0  [0, 100)  [100, 120)  1970-01-01T00:00:01.500Z
        v         flights          1  [0, 100)  [100, 100)  - (idle)
        watermark of the answer: 1970-01-01T00:00:01.500Z
        "#);
    }
}
