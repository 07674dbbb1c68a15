//! Explaining differences: key by key, what either state has.

use crate::text::{columns, counted};
use anyhow::Result;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::fmt::Write;
use twofold_batch::Batch;
use twofold_common::{
    Audited, Catalog, Cut, DifferentKey, Finding, SpeedStates, State, Values, View, differing,
};

/// How many keys of one difference are listed.
const LISTED: usize = 20;

/// All differences that are known of a view's version, with the keys in which the states differ.
pub(crate) async fn explain(
    batch: &Batch,
    catalog: &Catalog,
    view: &View,
    speed: &dyn SpeedStates,
) -> Result<String> {
    let findings = batch.batch_views.audits().findings(view.name(), &view.fingerprint().to_string()).await?;
    let mut text = String::new();
    for finding in findings.iter().filter(|finding| finding.equal() == Some(false)) {
        let states = batch.states_of(view, finding, Some(speed)).await?;
        let _ = write!(text, "\n{}", one(catalog, view, finding, &states).await?);
    }
    if text.is_empty() {
        let _ = writeln!(text, "{}: no difference is known", view.name());
    }
    Ok(text)
}

async fn one(
    catalog: &Catalog,
    view: &View,
    finding: &Finding,
    states: &(Option<State>, Option<State>),
) -> Result<String> {
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
    let mut values = Values::try_new(catalog.session(), cut).await?;
    let mut rows = Vec::new();
    for key in keys.iter().take(LISTED) {
        rows.extend(lines(cut, &mut values, key, (found, left), (right, counts)).await?);
    }
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
async fn lines(
    cut: &Cut,
    values: &mut Values,
    key: &DifferentKey,
    (left_name, left): (&str, &State),
    (right_name, right): (&str, &State),
) -> Result<[Vec<String>; 2]> {
    let mut texts = Vec::new();
    for (state, row) in [(left, key.left), (right, key.right)] {
        texts.push(match row {
            Some(row) => {
                let stored = texts_of(&state.batch().slice(row, 1))?;
                // A sum may be more than its type holds.
                let values = match values.of(state, row).await {
                    Ok(values) => texts_of(&values)?,
                    Err(_) => stored.clone(),
                };
                Some(Texts { values, stored })
            }
            None => None,
        });
    }
    let line = |name: &str, own: &Option<Texts>, other: &Option<Texts>| {
        let cells = (0..left.batch().num_columns()).map(|column| match (own, other) {
            (Some(own), Some(other)) => own.beside(other, column),
            (Some(own), None) => own.values[column].clone(),
            (None, Some(other)) if column < cut.keys() => other.values[column].clone(),
            (None, _) => "no such key".to_string(),
        });
        std::iter::once(name.to_string()).chain(cells).collect()
    };
    Ok([line(left_name, &texts[0], &texts[1]), line(right_name, &texts[1], &texts[0])])
}

/// A row of a state as text, for each of its columns.
struct Texts {
    /// What calls come to.
    values: Vec<String>,
    /// What is kept of them.
    stored: Vec<String>,
}

impl Texts {
    /// A column, where there is another row to compare with: what is kept, if that is all in which they differ.
    fn beside(&self, other: &Self, column: usize) -> String {
        let hidden =
            self.values[column] == other.values[column] && self.stored[column] != other.stored[column];
        if hidden {
            format!("{} of {}", self.values[column], self.stored[column])
        } else {
            self.values[column].clone()
        }
    }
}

fn texts_of(row: &RecordBatch) -> Result<Vec<String>> {
    row.columns().iter().map(|column| value(column, 0)).collect()
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
