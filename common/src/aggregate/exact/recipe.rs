//! Which accumulator a call of a function gets: the function, and the types that it is called with.

use super::decimals::Decimals;
use super::extreme::Extremes;
use super::floats::Floats;
use super::integers::{Integers, TOTAL};
use super::moments::Moments;
use super::statistic::Statistic;
use super::total::Totals;
use crate::aggregate::one_group::OneGroup;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, GroupsAccumulator};
use std::cmp::Ordering;
use std::sync::Arc;

/// What one of our functions computes, whatever the types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Sum,
    /// [`Kind::Sum`] whose value is the exact total.
    WideSum,
    Avg,
    /// `min` where less wins, `max` where greater does.
    Extreme(Ordering),
    Statistic(Statistic),
}

/// How to make an accumulator.
#[derive(Debug, Clone)]
pub(super) enum Recipe {
    FloatSum,
    FloatAvg,
    IntegerSum { target: DataType, what: String },
    IntegerAvg,
    DecimalSum { target: DataType, what: String },
    DecimalAvg { source: DataType, target: DataType, what: String },
    Extreme(Ordering, DataType),
    Statistic(Statistic),
}

/// An accumulator of the recipe, passed through `$wrap` and boxed.
macro_rules! make {
    ($recipe:expr, $wrap:path) => {
        match $recipe {
            Recipe::FloatSum => Ok(Box::new($wrap(Totals::sum(Floats::default())))),
            Recipe::FloatAvg => Ok(Box::new($wrap(Totals::mean(Floats::default())))),
            Recipe::IntegerSum { target, what } => {
                Ok(Box::new($wrap(Totals::sum(Integers::sum(target, what)))))
            }
            Recipe::IntegerAvg => Ok(Box::new($wrap(Totals::mean(Integers::avg())))),
            Recipe::DecimalSum { target, what } => {
                Ok(Box::new($wrap(Totals::sum(Decimals::sum(target, what)))))
            }
            Recipe::DecimalAvg { source, target, what } => {
                Ok(Box::new($wrap(Totals::mean(Decimals::avg(source, target, what)?))))
            }
            Recipe::Extreme(wins, data_type) => Ok(Box::new($wrap(Extremes::new(*wins, data_type)))),
            Recipe::Statistic(statistic) => Ok(Box::new($wrap(Moments::new(*statistic)))),
        }
    };
}

impl Recipe {
    /// The recipe for a call over arguments of the type of the first one, with a value of the type `target`; `None`
    /// where the engine's own accumulator is exact already, or refuses. `what` is what a message calls the call.
    pub(super) fn of(kind: Kind, first: &DataType, target: &DataType, what: &str) -> Option<Self> {
        let (target, what) = (target.clone(), what.to_string());
        Some(match (kind, first) {
            (Kind::Statistic(statistic), _) => Self::Statistic(statistic),
            (Kind::Extreme(wins), first) if first.is_floating() => Self::Extreme(wins, first.clone()),
            (Kind::Sum | Kind::WideSum, DataType::Float64) => Self::FloatSum,
            (Kind::Sum | Kind::WideSum, DataType::Int64 | DataType::UInt64) => {
                Self::IntegerSum { target, what }
            }
            (Kind::Sum | Kind::WideSum, first) if first.is_decimal() => Self::DecimalSum { target, what },
            (Kind::Avg, DataType::Float64) => Self::FloatAvg,
            (Kind::Avg, DataType::Int64 | DataType::UInt64) => Self::IntegerAvg,
            (Kind::Avg, first) if first.is_decimal() => {
                Self::DecimalAvg { source: first.clone(), target, what }
            }
            _ => return None,
        })
    }

    pub(super) fn groups(&self) -> Result<Box<dyn GroupsAccumulator>> {
        make!(self, std::convert::identity)
    }

    pub(super) fn accumulator(&self) -> Result<Box<dyn Accumulator>> {
        make!(self, OneGroup)
    }

    /// Whether `DISTINCT` changes the value.
    pub(super) fn counts_twice(&self) -> bool {
        !matches!(self, Self::Extreme(..))
    }

    /// The fields of the accumulator's state.
    pub(super) fn state_fields(&self, name: &str) -> Vec<FieldRef> {
        let field = |suffix: &str, data_type: DataType| {
            Arc::new(Field::new(format_state_name(name, suffix), data_type, true))
        };
        let count = || field("count", DataType::UInt64);
        match self {
            Self::FloatSum | Self::DecimalSum { .. } => vec![field("sum", DataType::Binary)],
            Self::FloatAvg | Self::DecimalAvg { .. } => vec![field("sum", DataType::Binary), count()],
            Self::IntegerSum { .. } => vec![field("sum", TOTAL)],
            Self::IntegerAvg => vec![field("sum", TOTAL), count()],
            Self::Extreme(_, data_type) => vec![field("extreme", data_type.clone())],
            Self::Statistic(statistic) => {
                let sums = statistic.moments().iter();
                let sums = sums.map(|moment| field(&format!("{moment:?}").to_lowercase(), DataType::Binary));
                std::iter::once(count()).chain(sums).collect()
            }
        }
    }
}
