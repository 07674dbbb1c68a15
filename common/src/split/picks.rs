//! Calls that pick one row of each group.

use datafusion::functions::core::named_struct;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment};
use datafusion::logical_expr::{AggregateUDF, Expr, lit};
use std::sync::Arc;

/// Calls that pick one row of each group. Those that pick the same row share one state.
#[derive(Default)]
pub(super) struct Picks<'a>(Vec<(PickedFor<'a>, Arc<AggregateUDF>)>);

/// Calls by their number in the aggregate.
type PickedFor<'a> = Vec<(usize, &'a AggregateFunction)>;

impl<'a> Picks<'a> {
    pub(super) fn add(&mut self, i: usize, call: &'a AggregateFunction, function: Arc<AggregateUDF>) {
        let same = |other: &AggregateFunction| {
            let (a, b) = (&call.params, &other.params);
            (&a.order_by, &a.filter, a.args.get(1..)) == (&b.order_by, &b.filter, b.args.get(1..))
                && a.null_treatment != Some(NullTreatment::IgnoreNulls)
        };
        let shared = self.0.iter_mut().find(|(of, f)| *f == function && of.iter().all(|(_, c)| same(c)));
        match shared {
            Some((of, _)) => of.push((i, call)),
            None => self.0.push((vec![(i, call)], function)),
        }
    }

    /// For each row that is picked: the calls that it is for, and the partial aggregate.
    pub(super) fn calls(self, place: &[Expr]) -> Vec<(Vec<usize>, AggregateFunction)> {
        let one = |(of, function): (PickedFor<'_>, Arc<AggregateUDF>)| {
            let params = &of[0].1.params;
            let value =
                |call: &AggregateFunction| call.params.args.first().cloned().unwrap_or_else(|| lit(true));
            let row = match of.as_slice() {
                [(_, call)] => value(call),
                _ => {
                    let fields = of.iter().flat_map(|(i, call)| [lit(format!("v{i}")), value(call)]);
                    named_struct().call(fields.collect())
                }
            };
            let order = params.order_by.iter().map(|sort| sort.expr.clone());
            let args = std::iter::once(row).chain(order).chain(place.iter().cloned()).collect();
            let filter = params.filter.clone();
            let call = AggregateFunction::new_udf(function, args, false, filter, Vec::new(), None);
            (of.into_iter().map(|(i, _)| i).collect(), call)
        };
        self.0.into_iter().map(one).collect()
    }
}
