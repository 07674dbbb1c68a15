//! The three combinators around an aggregate function `f` of the engine:
//!
//! | combinator      | in     | out   | used in |
//! | --------------- | ------ | ----- | ------- |
//! | `f_state`       | events | state | fold    |
//! | `f_merge_state` | states | state | merge   |
//! | `f_merge`       | states | value | finish  |
//!
//! For any way of cutting events into sets `A` and `B`:
//!
//! ```text
//! f(A + B) = f_merge(f_state(A), f_state(B)) = f_merge(f_merge_state(f_state(A), f_state(B)))
//! ```
//!
//! A state is a struct of the function's own state fields, whose names tell the function and its version. All work is
//! delegated to the function's own accumulators, so a combinator costs what the function costs. Whether the equation
//! holds to the bit is a property of `f`: [`super::mergeable`] says which functions are trusted with it.

use arrow::array::{ArrayRef, AsArray, BooleanArray, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion::common::{ScalarValue, internal_datafusion_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use std::sync::Arc;

/// One call of an aggregate function: the function, and what it was called with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Call {
    function: Arc<AggregateUDF>,
    /// The version of the function's states.
    version: u32,
    /// One field for each argument.
    arguments: Vec<FieldRef>,
    /// The arguments that are constants: functions read them from their expressions.
    literals: Vec<Option<ScalarValue>>,
    ignore_nulls: bool,
    return_field: FieldRef,
    state_fields: Vec<FieldRef>,
}

impl Call {
    /// A call of `function` with these arguments; `result` is the field that the plan gives its result.
    pub(crate) fn try_new(
        function: Arc<AggregateUDF>,
        version: u32,
        arguments: Vec<FieldRef>,
        literals: Vec<Option<ScalarValue>>,
        ignore_nulls: bool,
        nullable: bool,
    ) -> Result<Arc<Self>> {
        let own = function.return_field(&arguments)?;
        let return_field = Arc::new(own.as_ref().clone().with_nullable(nullable));
        let state_fields = function.state_fields(StateFieldsArgs {
            name: "state",
            input_fields: &arguments,
            return_field: Arc::clone(&return_field),
            ordering_fields: &[],
            is_distinct: false,
        })?;
        Ok(Arc::new(Self {
            function,
            version,
            arguments,
            literals,
            ignore_nulls,
            return_field,
            state_fields,
        }))
    }

    /// The fields of the state struct: the function's own, under names that say which function's they are, in which
    /// version: `sum.1.0`. So a state of another version is one of another type.
    fn struct_fields(&self) -> Fields {
        let name = |i| format!("{}.{}.{i}", self.function.name(), self.version);
        let fields = self.state_fields.iter().enumerate();
        fields.map(|(i, f)| Field::new(name(i), f.data_type().clone(), true)).collect()
    }

    /// Whether the function can be called so: it looks at its constants when it makes an accumulator.
    pub(crate) fn check(&self) -> Result<()> {
        self.with_args(|args| self.function.accumulator(args)).map(drop)
    }

    /// The function's name.
    pub(crate) fn name(&self) -> &str {
        self.function.name()
    }

    /// The type of the function's value.
    pub(crate) fn return_type(&self) -> &DataType {
        self.return_field.data_type()
    }

    /// The type of a state column.
    pub(crate) fn state_type(&self) -> DataType {
        DataType::Struct(self.struct_fields())
    }

    /// Calls `with` with the arguments from which the function makes its accumulator, as in the original query.
    fn with_args<T>(&self, with: impl FnOnce(AccumulatorArgs<'_>) -> T) -> T {
        let schema = Schema::new(
            self.arguments
                .iter()
                .enumerate()
                .map(|(i, f)| f.as_ref().clone().with_name(format!("a{i}")))
                .collect::<Vec<_>>(),
        );
        let exprs: Vec<Arc<dyn PhysicalExpr>> = self
            .literals
            .iter()
            .enumerate()
            .map(|(i, literal)| match literal {
                Some(value) => Arc::new(Literal::new(value.clone())) as Arc<dyn PhysicalExpr>,
                None => Arc::new(Column::new(&format!("a{i}"), i)),
            })
            .collect();
        with(AccumulatorArgs {
            return_field: Arc::clone(&self.return_field),
            schema: &schema,
            ignore_nulls: self.ignore_nulls,
            order_bys: &[],
            is_reversed: false,
            name: self.function.name(),
            is_distinct: false,
            exprs: &exprs,
            expr_fields: &self.arguments,
        })
    }
}

/// Which of the three combinators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Role {
    State,
    MergeState,
    Merge,
}

/// A combinator as an aggregate function of the engine.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Combinator {
    role: Role,
    name: String,
    call: Arc<Call>,
    signature: Signature,
}

/// `f_state`: folds events into a state.
pub(crate) fn state(call: &Arc<Call>) -> Arc<AggregateUDF> {
    combinator(Role::State, "state", call)
}

/// `f_merge_state`: merges states into a state.
pub(crate) fn merge_state(call: &Arc<Call>) -> Arc<AggregateUDF> {
    combinator(Role::MergeState, "merge_state", call)
}

/// `f_merge`: merges states into the function's value.
pub(crate) fn merge(call: &Arc<Call>) -> Arc<AggregateUDF> {
    combinator(Role::Merge, "merge", call)
}

fn combinator(role: Role, suffix: &str, call: &Arc<Call>) -> Arc<AggregateUDF> {
    let signature = match role {
        Role::State if call.arguments.is_empty() => Signature::nullary(Volatility::Immutable),
        Role::State => Signature::any(call.arguments.len(), Volatility::Immutable),
        Role::MergeState | Role::Merge => Signature::any(1, Volatility::Immutable),
    };
    Arc::new(AggregateUDF::from(Combinator {
        role,
        name: format!("{}_{suffix}", call.function.name()),
        call: Arc::clone(call),
        signature,
    }))
}

/// The call that a function folds into a state, if it is an `f_state`.
pub(crate) fn of_state(function: &AggregateUDF) -> Option<&Arc<Call>> {
    let combinator = (function.inner().as_ref() as &dyn std::any::Any).downcast_ref::<Combinator>()?;
    (combinator.role == Role::State).then_some(&combinator.call)
}

/// The call whose states a function merges into its value, or into a state, if it is an `f_merge` or `f_merge_state`.
pub(crate) fn of_merge(function: &AggregateUDF) -> Option<&Arc<Call>> {
    let combinator = (function.inner().as_ref() as &dyn std::any::Any).downcast_ref::<Combinator>()?;
    (combinator.role != Role::State).then_some(&combinator.call)
}

/// Whether a function is one of the combinators, whose states may come in any order.
pub(crate) fn is_combinator(function: &AggregateUDF) -> bool {
    (function.inner().as_ref() as &dyn std::any::Any).is::<Combinator>()
}

impl AggregateUDFImpl for Combinator {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.role {
            Role::State | Role::MergeState => self.call.state_type(),
            Role::Merge => self.call.return_field.data_type().clone(),
        })
    }

    fn return_field(&self, arg_fields: &[FieldRef]) -> Result<FieldRef> {
        let types: Vec<DataType> = arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let nullable = self.role == Role::Merge && self.call.return_field.is_nullable();
        Ok(Arc::new(Field::new(&self.name, self.return_type(&types)?, nullable)))
    }

    fn is_nullable(&self) -> bool {
        self.role == Role::Merge && self.call.return_field.is_nullable()
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        match self.role {
            Role::Merge => self.call.function.default_value(data_type),
            Role::State | Role::MergeState => ScalarValue::try_from(data_type),
        }
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(self
            .call
            .state_fields
            .iter()
            .enumerate()
            .map(|(i, f)| Arc::new(Field::new(format!("{}[{i}]", args.name), f.data_type().clone(), true)))
            .collect())
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let inner = self.call.with_args(|args| self.call.function.accumulator(args))?;
        Ok(Box::new(OneGroup { role: self.role, fields: self.call.struct_fields(), inner }))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        self.call.with_args(|args| self.call.function.groups_accumulator_supported(args))
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let inner = self.call.with_args(|args| self.call.function.create_groups_accumulator(args))?;
        Ok(Box::new(ManyGroups { role: self.role, fields: self.call.struct_fields(), inner }))
    }
}

/// The one struct array that a merging combinator gets as its argument.
fn state_columns(values: &[ArrayRef]) -> Result<&[ArrayRef]> {
    let column = values.first().ok_or_else(|| internal_datafusion_err!("a merge without a state column"))?;
    let column =
        column.as_struct_opt().ok_or_else(|| internal_datafusion_err!("a state column that is no struct"))?;
    Ok(column.columns())
}

struct ManyGroups {
    role: Role,
    fields: Fields,
    inner: Box<dyn GroupsAccumulator>,
}

impl GroupsAccumulator for ManyGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        match self.role {
            Role::State => self.inner.update_batch(values, group_indices, opt_filter, total_num_groups),
            Role::MergeState | Role::Merge => {
                self.inner.merge_batch(state_columns(values)?, group_indices, total_num_groups)
            }
        }
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        match self.role {
            Role::Merge => self.inner.evaluate(emit_to),
            Role::State | Role::MergeState => {
                let columns = self.inner.state(emit_to)?;
                Ok(Arc::new(StructArray::try_new(self.fields.clone(), columns, None)?))
            }
        }
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.inner.state(emit_to)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.inner.merge_batch(values, group_indices, total_num_groups)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        match self.role {
            Role::State => self.inner.convert_to_state(values, opt_filter),
            Role::MergeState | Role::Merge => Ok(state_columns(values)?.to_vec()),
        }
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}

#[derive(Debug)]
struct OneGroup {
    role: Role,
    fields: Fields,
    inner: Box<dyn Accumulator>,
}

impl Accumulator for OneGroup {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        match self.role {
            Role::State => self.inner.update_batch(values),
            Role::MergeState | Role::Merge => self.inner.merge_batch(state_columns(values)?),
        }
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        match self.role {
            Role::Merge => self.inner.evaluate(),
            Role::State | Role::MergeState => {
                let columns =
                    self.inner.state()?.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>>>()?;
                let state = StructArray::try_new(self.fields.clone(), columns, None)?;
                Ok(ScalarValue::Struct(Arc::new(state)))
            }
        }
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }
}
