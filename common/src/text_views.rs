//! Which text a fold reads as views: that by which it only filters or joins.
//!
//! A view is 16 bytes, whatever the text, and Parquet's dictionaries give it without a copy. Text that goes on into a
//! state is copied there in any case, and grouped faster as it is.

use crate::error::Result;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{Expr, LogicalPlan};
use std::collections::BTreeSet;
use std::sync::Arc;

/// `schema`, of which `plan` reads, with text as views where that is faster.
pub(crate) fn with_views(schema: &SchemaRef, plan: &LogicalPlan) -> Result<SchemaRef> {
    let kept = going_on(plan)?;
    Ok(text_as_views(schema, |field| !kept.contains(field.name())))
}

/// `schema` with its text as views in these columns.
pub(crate) fn text_as_views(schema: &Schema, is_view: impl Fn(&Field) -> bool) -> SchemaRef {
    let viewed = |field: &FieldRef| match field.data_type() {
        DataType::Utf8 if is_view(field) => {
            Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View))
        }
        _ => Arc::clone(field),
    };
    let fields: Fields = schema.fields().iter().map(viewed).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The names of columns that more is made of than filters and joins.
fn going_on(plan: &LogicalPlan) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(_) | LogicalPlan::Filter(_) | LogicalPlan::Join(_) => {}
            LogicalPlan::Projection(_) => node
                .apply_expressions(|expr| {
                    if !matches!(expr, Expr::Column(_)) {
                        add(expr, &mut names);
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
                .map(drop)?,
            _ => node
                .apply_expressions(|expr| {
                    add(expr, &mut names);
                    Ok(TreeNodeRecursion::Continue)
                })
                .map(drop)?,
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(names)
}

fn add(expr: &Expr, names: &mut BTreeSet<String>) {
    names.extend(expr.column_refs().into_iter().map(|column| column.name.clone()));
}

#[cfg(test)]
mod tests {
    use crate::{Catalog, Folder, Project};
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::DataType;
    use std::sync::Arc;

    const SQL: &str = "
        CREATE STREAM s (a TEXT, b TEXT, c TEXT, n BIGINT);
        CREATE TABLE t (a TEXT, name TEXT) WITH (path = 't.csv');
        CREATE MATERIALIZED VIEW joined AS SELECT t.name, sum(n) AS n FROM s JOIN t ON s.a = t.a WHERE b = 'x' GROUP BY 1;
        CREATE MATERIALIZED VIEW kept AS SELECT a, min(b) AS b, count(*) AS n FROM s WHERE c LIKE '%y' GROUP BY 1;
        CREATE MATERIALIZED VIEW made AS SELECT upper(a) AS up, max(b || c) AS m, count(*) AS n FROM s GROUP BY 1;
        CREATE MATERIALIZED VIEW chosen AS SELECT CASE WHEN b IN ('x', 'z') THEN 1 END AS k, sum(length(a)) AS n FROM s
            WHERE upper(c) > 'L' AND c NOT IN ('p', 'q') GROUP BY 1;
        CREATE MATERIALIZED VIEW inside AS SELECT count(*) AS n FROM s WHERE a IN (SELECT a FROM t) AND b <> c;";

    #[tokio::test]
    async fn text_that_is_only_looked_at_is_read_as_views_and_the_state_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        for (file, content) in [("twofold.toml", ""), ("a.sql", SQL), ("t.csv", "a,name\np,one\nq,two\n")] {
            std::fs::write(dir.path().join(file), content).unwrap();
        }
        let catalog = Catalog::new(&Project::load(dir.path()).unwrap()).await.unwrap();
        let text = |every: usize, all: &[Option<&str>]| -> ArrayRef {
            Arc::new(
                (0..300).map(|i| all[i / every % all.len()].map(str::to_string)).collect::<StringArray>(),
            )
        };
        let events = RecordBatch::try_from_iter([
            ("a", text(1, &[Some("p"), None, Some("q"), Some("a long text of more than twelve bytes")])),
            ("b", text(5, &[Some("x"), Some("z"), None, Some("")])),
            (
                "c",
                text(
                    7,
                    &[Some("xy"), Some("another text that does not fit into a view, y"), None, Some("q")],
                ),
            ),
            ("n", Arc::new(Int64Array::from_iter_values(0..300)) as ArrayRef),
        ]);
        let events = events.unwrap();
        let all = [("joined", "a b"), ("kept", "c"), ("made", ""), ("chosen", "c"), ("inside", "a b c")];
        for (view, expected) in all {
            let cut = &catalog.view(view).unwrap().cuts()[0];
            let schema = |name: &str| Ok(catalog.stream(name)?.event_schema());
            let mut plain = Folder::try_new(catalog.session(), cut, schema).await.unwrap();
            let mut viewing = Folder::over_parquet(catalog.session(), cut, schema).await.unwrap();
            let schema = viewing.event_schema("s").unwrap().clone();
            let views = schema.fields().iter().filter(|field| *field.data_type() == DataType::Utf8View);
            let read = viewing.columns("s");
            let views: Vec<&str> = views
                .map(|field| field.name().as_str())
                .filter(|name| read.iter().any(|c| c == name))
                .collect();
            assert_eq!(views.join(" "), expected, "{view}");
            let state = plain.fold("s", std::slice::from_ref(&events)).await.unwrap();
            assert!(state.rows() > 0, "{view}");
            let viewed = viewing.fold("s", std::slice::from_ref(&events)).await.unwrap();
            assert_eq!(viewed.batch(), state.batch(), "{view}");
        }
    }
}
