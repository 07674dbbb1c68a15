//! `twofold query`: the answer to one query, whole or not at all.

use crate::args::QueryArgs;
use crate::format::{Output, render};
use crate::node::Door;
use crate::text::{columns, print};
use anyhow::{Result, bail};
use std::io::IsTerminal;
use std::path::Path;
use twofold_common::Coverage;

pub(crate) async fn run(dir: &Path, args: &QueryArgs, command: &str) -> Result<()> {
    if args.format == Output::Arrow && std::io::stdout().is_terminal() {
        bail!("an Arrow stream is not for a terminal: redirect it to a file");
    }
    let door = Door::open(dir, Some(&args.sql), command).await?;
    let rows = door.query(&args.sql).await?;
    let bytes = render(&rows, args.format)?;
    if args.coverage {
        eprint!("{}", coverage_lines(&rows.coverage));
    }
    print(bytes)
}

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
