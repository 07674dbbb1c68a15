//! Explaining differences: key by key, what either state has.

use crate::text::{columns, counted};
use anyhow::Result;
use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::fmt::Write;
use twofold_batch::Batch;
use twofold_common::{Audited, Cut, DifferentKey, Finding, SpeedStates, State, View, differing};

/// How many keys of one difference are listed.
const LISTED: usize = 20;

/// All differences that are known of a view's version, with the keys in which the states differ.
pub(crate) async fn explain(batch: &Batch, view: &View, speed: &dyn SpeedStates) -> Result<String> {
    let findings = batch.batch_views.audits().findings(view.name(), &view.fingerprint().to_string()).await?;
    let mut text = String::new();
    for finding in findings.iter().filter(|finding| finding.equal() == Some(false)) {
        let states = batch.states_of(view, finding, Some(speed)).await?;
        let _ = write!(text, "\n{}", one(view, finding, &states)?);
    }
    if text.is_empty() {
        let _ = writeln!(text, "{}: no difference is known", view.name());
    }
    Ok(text)
}

fn one(view: &View, finding: &Finding, states: &(Option<State>, Option<State>)) -> Result<String> {
    let (place, found) = match &finding.audited {
        Audited::Segment { stream, partition, range } => {
            (format!("stream {stream}, partition {partition}, offsets {range}"), "speed")
        }
        Audited::BatchView => ("the batch view as a whole".to_string(), "incremental"),
    };
    let right = if found == "speed" { "batch" } else { "full" };
    let head = format!("{}: {place}, cut {}", view.name(), finding.cut);
    let digest = finding.found.map_or_else(|| "none".to_string(), |digest| digest.to_string());
    let (Some(left), Some(counts)) = states else {
        let missing = if states.0.is_none() { found } else { right };
        return Ok(format!(
            "{head}\n  the {missing} state was let go of before it was kept: only the digests are known\n  {found} \
             {digest}\n  {right} {}\n",
            finding.batch
        ));
    };
    let Some(cut) = view.cuts().get(finding.cut) else {
        return Ok(format!("{head}: there is no such cut\n"));
    };
    let keys = differing(left, counts)?;
    let differ = if keys.len() == 1 { "differs" } else { "differ" };
    let mut text = format!("{head}: {} {differ}\n", counted(keys.len() as u64, "key"));
    let rows = keys.iter().take(LISTED).map(|key| lines(cut, key, (found, left), (right, counts)));
    let rows: Vec<Vec<String>> = rows.collect::<Result<Vec<_>>>()?.concat();
    let names: Vec<String> = (0..left.batch().num_columns()).map(|column| name(cut, column)).collect();
    let heads: Vec<&str> = std::iter::once("state").chain(names.iter().map(String::as_str)).collect();
    for line in columns(&heads, &rows).lines() {
        let _ = writeln!(text, "  {line}");
    }
    if keys.len() > LISTED {
        let _ = writeln!(text, "  and {} more", counted((keys.len() - LISTED) as u64, "key"));
    }
    Ok(text)
}

/// A key as two lines: what either state has of it.
fn lines(
    cut: &Cut,
    key: &DifferentKey,
    (left_name, left): (&str, &State),
    (right_name, right): (&str, &State),
) -> Result<Vec<Vec<String>>> {
    let line = |name: &str, state: &State, row: Option<usize>, other: (&State, Option<usize>)| {
        let mut cells = vec![name.to_string()];
        for column in 0..state.batch().num_columns() {
            cells.push(match (row, other) {
                (Some(row), _) => value(state.batch().column(column), row)?,
                (None, (other, Some(row))) if column < cut.keys() => {
                    value(other.batch().column(column), row)?
                }
                (None, _) => "no such key".to_string(),
            });
        }
        Ok::<_, anyhow::Error>(cells)
    };
    Ok(vec![
        line(left_name, left, key.left, (right, key.right))?,
        line(right_name, right, key.right, (left, key.left))?,
    ])
}

/// What a column of a state is, in terms of the query.
fn name(cut: &Cut, column: usize) -> String {
    cut.meanings().get(column).cloned().unwrap_or_else(|| format!("column {column}"))
}

/// A value of a state. A state of one field is that field.
fn value(column: &dyn Array, row: usize) -> Result<String> {
    if let (DataType::Struct(fields), false) = (column.data_type(), column.is_null(row))
        && fields.len() == 1
    {
        return value(column.as_struct().column(0), row);
    }
    let options = FormatOptions::default().with_null("null");
    Ok(ArrayFormatter::try_new(column, &options)?.value(row).try_to_string()?)
}
