//! Grouping by where windows start, in place of the windows.
//!
//! ```text
//! tumble(ts, size) = tumble(start of tumble(ts, size), size)        of panes too
//! ```
//!
//! Windows that come one after the other are told by their starts. The engine hashes and compares these several times
//! as fast as it does structs, so a fold groups by them, and makes windows of what is left.

use crate::error::Result;
use crate::expr::{columns, unalias};
use crate::windows::at_start;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::logical_plan::{Aggregate, Projection};
use datafusion::logical_expr::{Expr, LogicalPlan};
use std::sync::Arc;

/// `plan`, whose aggregates group by the starts of such windows.
pub(crate) fn by_start(plan: LogicalPlan) -> Result<LogicalPlan> {
    let grouped = plan.transform_up(|plan| {
        let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
        Ok(grouped(aggregate)?.map_or_else(|| Transformed::no(plan.clone()), Transformed::yes))
    })?;
    Ok(grouped.data)
}

/// The same aggregate; `None` if there is no such window among its keys.
fn grouped(aggregate: &Aggregate) -> Result<Option<LogicalPlan>, datafusion::error::DataFusionError> {
    let is_window: Vec<bool> =
        aggregate.group_expr.iter().map(|key| at_start(unalias(key), Expr::clone(key)).is_some()).collect();
    if !is_window.contains(&true) {
        return Ok(None);
    }
    let start = |(i, key): (usize, &Expr)| match is_window[i] {
        true => get_field(unalias(key).clone(), "start").alias(format!("__start{i}")),
        false => key.clone(),
    };
    let keys = aggregate.group_expr.iter().enumerate().map(start).collect();
    let by_start = Aggregate::try_new(Arc::clone(&aggregate.input), keys, aggregate.aggr_expr.clone())?;
    let named = columns(&by_start.schema).into_iter().enumerate().map(|(i, column)| {
        let key = aggregate.group_expr.get(i);
        let window = key.and_then(|key| at_start(unalias(key), column.clone()));
        match (window, aggregate.schema.qualified_field(i)) {
            (Some(window), (qualifier, field)) => window.alias_qualified(qualifier.cloned(), field.name()),
            (None, _) => column,
        }
    });
    let named = named.collect();
    Ok(Some(LogicalPlan::Projection(Projection::try_new(named, Arc::new(LogicalPlan::Aggregate(by_start)))?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine;
    use arrow::util::pretty::pretty_format_batches;

    /// Times before and after 1970, on and beside bounds of windows, the first and the last there are, and none.
    const EVENTS: &str = "
        (SELECT arrow_cast(t, 'Timestamp(Nanosecond, None)') AS t,
                arrow_cast(t / 1000000000, 'Timestamp(Second, Some(\"+02:00\"))') AS s, t % 3 AS k
         FROM (VALUES (0), (-1), (1), (9999999999), (10000000000), (-10000000000), (-10000000001), (12345678901234567),
                      (9223372036854775807), (9223372036854775806), (-9223372036854775807),
                      (-9223372036854775808), (NULL), (NULL), (9999999998)) v (t))";

    /// The rows in order, and whether windows were told by their starts.
    async fn rows(select: &str, rewritten: bool) -> (String, bool) {
        let session = engine::session();
        let plan = session.sql(&format!("{select} FROM {EVENTS} e GROUP BY 1, 2")).await.unwrap();
        let state = session.state();
        let plan = state.analyzer().execute_and_check(
            plan.into_unoptimized_plan(),
            state.config_options(),
            |_, _| {},
        );
        let plan = plan.unwrap();
        let plan = if rewritten { by_start(plan).unwrap() } else { plan };
        let starts = plan.display_indent().to_string().contains("__start");
        let rows = session.execute_logical_plan(plan).await.unwrap().collect().await.unwrap();
        let text = pretty_format_batches(&rows).unwrap().to_string();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        (lines.join("\n"), starts)
    }

    #[tokio::test]
    async fn grouped_by_starts_there_are_the_same_windows() {
        let windows = [
            ("tumble(t, INTERVAL '10 seconds')", true),
            ("tumble(t, INTERVAL '10 seconds', INTERVAL '-3 seconds') AS w", true),
            ("tumble(s, INTERVAL '7 days')", true),
            ("tumble(arrow_cast(k, 'Date32'), INTERVAL '1 day')", true),
            ("hop_pane(t, INTERVAL '4 seconds', INTERVAL '10 seconds')", true),
            ("tumble(t, INTERVAL '10 seconds')['end']", false),
            ("first_hop(t, INTERVAL '4 seconds', INTERVAL '10 seconds')", false),
            ("event_session(t, INTERVAL '4 seconds')", false),
        ];
        for (window, expected) in windows {
            let select = format!(
                "SELECT {window}, k, count(*) AS n, max(tumble(t, INTERVAL '1 minute')['start']) AS m"
            );
            let ((plain, _), (grouped, starts)) = (rows(&select, false).await, rows(&select, true).await);
            assert_eq!(grouped, plain, "{window}");
            assert!(plain.lines().count() > 8, "{window}: {plain}");
            assert_eq!(starts, expected, "{window}");
        }
    }
}
