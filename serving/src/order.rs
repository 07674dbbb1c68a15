//! `order=column.desc,column2`: by which columns the rows of a view are ordered.
//!
//! Behind a column may stand `.asc` (which is the default) or `.desc`, and `.nullsfirst` or `.nullslast`; without the
//! latter, null is greater than any value. A struct is ordered by its fields, one after the other. A column that is
//! named so itself is that column.

use crate::filter::no_column;
use arrow::compute::SortOptions;
use arrow::datatypes::Schema;
use twofold_common::{Error, Result};

/// The positions of the columns, and the direction of each, as `order` has them.
///
/// # Errors
/// `Invalid` if a column is not there, or is named twice.
pub(crate) fn order(view: &str, schema: &Schema, order: &str) -> Result<Vec<(usize, SortOptions)>> {
    let mut columns: Vec<(usize, SortOptions)> = Vec::new();
    for text in order.split(',') {
        let (column, options) = one(schema, text);
        let names = schema.fields().iter().map(|f| f.name().as_str());
        let position = schema.index_of(column).map_err(|_| no_column(view, column, names))?;
        if columns.iter().any(|(known, _)| *known == position) {
            return Err(Error::Invalid(format!("order: column {column} is named more than once")));
        }
        columns.push((position, options));
    }
    Ok(columns)
}

fn one<'a>(schema: &Schema, text: &'a str) -> (&'a str, SortOptions) {
    let (mut column, mut descending, mut nulls_first) = (text, None, None);
    while schema.index_of(column).is_err() {
        let Some((rest, word)) = column.rsplit_once('.') else { break };
        match word {
            "asc" | "desc" if descending.is_none() => descending = Some(word == "desc"),
            "nullsfirst" | "nullslast" if nulls_first.is_none() => nulls_first = Some(word == "nullsfirst"),
            _ => break,
        }
        column = rest;
    }
    let descending = descending.unwrap_or(false);
    (column, SortOptions { descending, nulls_first: nulls_first.unwrap_or(descending) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field};

    fn parsed(text: &str) -> Result<Vec<(usize, bool, bool)>> {
        let columns = ["a", "b", "a.desc"].map(|name| Field::new(name, DataType::Int64, true));
        let columns = order("v", &Schema::new(columns.to_vec()), text)?;
        Ok(columns.into_iter().map(|(i, o)| (i, o.descending, o.nulls_first)).collect())
    }

    #[test]
    fn each_column_has_its_direction_and_its_place_for_nulls() {
        assert_eq!(parsed("b,a").unwrap(), [(1, false, false), (0, false, false)]);
        assert_eq!(parsed("b.desc").unwrap(), [(1, true, true)]);
        assert_eq!(parsed("b.desc.nullslast").unwrap(), [(1, true, false)]);
        assert_eq!(parsed("b.nullsfirst,a.asc").unwrap(), [(1, false, true), (0, false, false)]);
    }

    #[test]
    fn a_column_of_that_very_name_is_meant() {
        assert_eq!(parsed("a.desc").unwrap(), [(2, false, false)]);
        assert_eq!(parsed("a.desc.desc").unwrap(), [(2, true, true)]);
    }

    #[test]
    fn what_is_no_column_is_told() {
        let told = |text: &str| parsed(text).unwrap_err().to_string();
        assert_eq!(told("c.desc"), "view v has no column c; it has: a, b, a.desc");
        assert!(told("b.up").contains("no column b.up"));
        assert!(told("").contains("no column ;"));
        assert_eq!(told("b,b.desc"), "order: column b is named more than once");
    }
}
