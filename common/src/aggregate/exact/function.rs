//! A function of the engine with an accumulator of our own: the same name, arguments and types, another arithmetic.

use super::distinct_values::DistinctValues;
use super::integers::TOTAL;
use super::recipe::{Kind, Recipe};
use super::sliding::SlidingMean;
use crate::aggregate::pick::{Which, pick};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::types::{
    NativeType, logical_float64, logical_int8, logical_int16, logical_int32, logical_int64, logical_uint8,
    logical_uint16, logical_uint32, logical_uint64,
};
use datafusion::common::{Result, ScalarValue, not_impl_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Coercion, Documentation, GroupsAccumulator, ReversedUDAF,
    SetMonotonicity, Signature, StatisticsArgs, TypeSignature, TypeSignatureClass, Volatility,
};
use std::cmp::Ordering;
use std::sync::Arc;

/// The engine's function, and what we compute in its place.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Function {
    engine: Arc<AggregateUDF>,
    kind: Kind,
    signature: Signature,
}

impl Function {
    pub(super) fn new(engine: Arc<AggregateUDF>, kind: Kind) -> Self {
        let signature = if kind == Kind::Avg { avg_signature() } else { engine.signature().clone() };
        Self { engine, kind, signature }
    }

    /// For our `sum`: the same one whose value is the exact total.
    pub(super) fn wide(&self) -> Option<Self> {
        let wide = || Self::new(Arc::clone(&self.engine), Kind::WideSum);
        (self.kind == Kind::Sum).then(wide)
    }

    /// What is asked where there is no recipe: the engine's function, but for `min` and `max` over lists and structs.
    /// Those the engine compares as if nulls in them were equal to everything, so that its answer depends on the order.
    fn other(&self, first: Option<&FieldRef>) -> Arc<AggregateUDF> {
        match self.kind {
            Kind::Extreme(wins) if first.is_some_and(|f| f.data_type().is_nested()) => {
                let which = if wins == Ordering::Less { Which::First } else { Which::Last };
                pick(self.engine.name(), which, Vec::new(), true)
            }
            _ => Arc::clone(&self.engine),
        }
    }

    fn recipe(&self, args: &AccumulatorArgs<'_>) -> Option<Recipe> {
        let first = args.expr_fields.first()?.data_type();
        Recipe::of(self.kind, first, args.return_field.data_type(), args.name)
    }

    /// The call without a `DISTINCT` that says nothing.
    fn idempotent<'a>(&self, args: AccumulatorArgs<'a>) -> AccumulatorArgs<'a> {
        let is_distinct = args.is_distinct && !matches!(self.kind, Kind::Extreme(_));
        AccumulatorArgs { is_distinct, ..args }
    }

    /// Whether the engine's accumulator is as good, so that all of the call is left to it.
    fn leaves(&self, types: &[DataType]) -> bool {
        types.first().is_none_or(|first| Recipe::of(self.kind, first, first, "").is_none())
    }
}

/// That of the engine's `avg`, but that integers stay integers.
fn avg_signature() -> Signature {
    let widened = |to, native, from: Vec<_>| {
        let from = from.into_iter().map(TypeSignatureClass::Native).collect();
        let to = TypeSignatureClass::Native(to);
        TypeSignature::Coercible(vec![Coercion::new_implicit(to, from, native)])
    };
    let exact = |class| TypeSignature::Coercible(vec![Coercion::new_exact(class)]);
    let float = Coercion::new_implicit(
        TypeSignatureClass::Native(logical_float64()),
        vec![TypeSignatureClass::Float],
        NativeType::Float64,
    );
    Signature::one_of(
        vec![
            exact(TypeSignatureClass::Decimal),
            exact(TypeSignatureClass::Duration),
            widened(
                logical_uint64(),
                NativeType::UInt64,
                vec![logical_uint8(), logical_uint16(), logical_uint32()],
            ),
            widened(
                logical_int64(),
                NativeType::Int64,
                vec![logical_int8(), logical_int16(), logical_int32()],
            ),
            TypeSignature::Coercible(vec![float]),
        ],
        Volatility::Immutable,
    )
}

impl AggregateUDFImpl for Function {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn aliases(&self) -> &[String] {
        self.engine.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.engine.coerce_types(arg_types)
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match (self.kind, arg_types) {
            (Kind::WideSum, [DataType::Int64 | DataType::UInt64]) => Ok(TOTAL),
            (Kind::WideSum, [decimal]) if decimal.is_decimal() => Ok(DataType::Binary),
            _ => self.engine.return_type(arg_types),
        }
    }

    fn is_nullable(&self) -> bool {
        self.engine.is_nullable()
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.engine.default_value(data_type)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let first = args.input_fields.first().map_or(&DataType::Null, |f| f.data_type());
        match Recipe::of(self.kind, first, args.return_field.data_type(), args.name) {
            None => self.other(args.input_fields.first()).state_fields(args),
            Some(recipe) if args.is_distinct && recipe.counts_twice() => {
                let set = |(i, field): (usize, &FieldRef)| {
                    let item = Field::new_list_field(field.data_type().clone(), true);
                    let name = format_state_name(args.name, &format!("distinct {i}"));
                    Arc::new(Field::new_list(name, item, true))
                };
                Ok(args.input_fields.iter().enumerate().map(set).collect())
            }
            Some(recipe) => Ok(recipe.state_fields(args.name)),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match self.recipe(&args) {
            None => self.other(args.expr_fields.first()).accumulator(self.idempotent(args)),
            Some(recipe) if args.is_distinct && recipe.counts_twice() => {
                let types: Vec<DataType> = args.expr_fields.iter().map(|f| f.data_type().clone()).collect();
                Ok(Box::new(DistinctValues::try_new(&types, recipe)?))
            }
            Some(recipe) => recipe.accumulator(),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        match self.recipe(&args) {
            None => self.other(args.expr_fields.first()).groups_accumulator_supported(self.idempotent(args)),
            Some(recipe) => !(args.is_distinct && recipe.counts_twice()),
        }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        match self.recipe(&args) {
            None => self.other(args.expr_fields.first()).create_groups_accumulator(self.idempotent(args)),
            Some(recipe) => recipe.groups(),
        }
    }

    /// The engine's: in a frame that slides rows leave in the order in which they came, which is given.
    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match self.recipe(&args) {
            Some(Recipe::IntegerAvg) if args.is_distinct => {
                not_impl_err!("avg(DISTINCT) over a window that slides")
            }
            Some(Recipe::IntegerAvg) => Ok(Box::new(SlidingMean::default())),
            _ => self.engine.create_sliding_accumulator(args),
        }
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn is_descending(&self) -> Option<bool> {
        self.engine.is_descending()
    }

    /// Only where the engine's accumulator is used: statistics of files know neither NaN nor a sum past 64 bits.
    ///
    /// For the same reason there is no `simplify_expr_op_literal`: `sum(x + 1)` is not `sum(x) + count(x)` where
    /// `x + 1` is rounded.
    fn value_from_stats(&self, args: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        let types = [args.return_type.clone()];
        if self.leaves(&types) { self.engine.value_from_stats(args) } else { None }
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.engine.supports_null_handling_clause()
    }

    fn supports_within_group_clause(&self) -> bool {
        self.engine.supports_within_group_clause()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.engine.inner().set_monotonicity(data_type)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.engine.documentation()
    }
}
