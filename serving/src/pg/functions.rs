//! Functions that clients of PostgreSQL call about the server, beside those of the library.

use super::names::DATABASE;
use super::rewrite;
use super::settings;
use super::types;
use arrow::array::{ArrayRef, AsArray, Int32Array, StringArray, new_empty_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{ScalarValue, exec_err};
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    SimpleScalarUDF, TypeSignature, Volatility, create_udf,
};
use datafusion::prelude::SessionContext;
use std::collections::HashMap;
use std::sync::Arc;
use twofold_common::Result;

/// The version of PostgreSQL whose clients this speaks to. What they read is the number before the first space.
pub(super) const SERVER_VERSION: &str = concat!("16.6 (Twofold ", env!("CARGO_PKG_VERSION"), ")");
const SESSION_USER: &str = "session_user";

/// What says nothing here: there are no comments, indexes, triggers or functions in PostgreSQL's sense.
const NOTHING: &[&str] = &[
    "obj_description",
    "col_description",
    "shobj_description",
    "pg_get_indexdef",
    "pg_get_triggerdef",
    "pg_get_ruledef",
    "pg_get_functiondef",
    "pg_get_function_arguments",
    "pg_get_function_identity_arguments",
    "pg_get_function_result",
    "pg_get_serial_sequence",
    "pg_get_partition_constraintdef",
    "pg_tablespace_location",
    "json_build_object",
    "pg_size_pretty",
];
const TRUE: &[&str] = &[
    "pg_function_is_visible",
    "pg_type_is_visible",
    "pg_operator_is_visible",
    "pg_collation_is_visible",
    "has_column_privilege",
    "has_function_privilege",
    "has_sequence_privilege",
    "has_type_privilege",
];
const FALSE: &[&str] = &["pg_is_in_recovery", "pg_is_other_temp_schema"];

/// Makes them known to a session.
pub(super) fn register(session: &SessionContext) {
    let text = |text: &str| ScalarValue::Utf8(Some(text.to_string()));
    let mut constants = vec![
        ("version", text(concat!("PostgreSQL 16.6 (Twofold ", env!("CARGO_PKG_VERSION"), ")"))),
        ("pg_get_userbyid", text(DATABASE)),
        (SESSION_USER, text(DATABASE)),
        ("pg_my_temp_schema", ScalarValue::Int32(Some(0))),
        ("pg_table_size", ScalarValue::Int64(Some(0))),
        ("pg_relation_size", ScalarValue::Int64(Some(0))),
        ("pg_total_relation_size", ScalarValue::Int64(Some(0))),
        ("pg_database_size", ScalarValue::Int64(Some(0))),
        ("generate_subscripts", ScalarValue::Int32(None)),
    ];
    constants.extend(NOTHING.iter().map(|name| (*name, ScalarValue::Utf8(None))));
    constants.extend(TRUE.iter().map(|name| (*name, ScalarValue::Boolean(Some(true)))));
    constants.extend(FALSE.iter().map(|name| (*name, ScalarValue::Boolean(Some(false)))));
    for (name, value) in constants {
        session.register_udf(constant(name, value));
    }
    session.register_udf(rewrite::like_pattern());
    session.register_udf(ScalarUDF::new_from_impl(CurrentSetting { signature: one_or_two_texts() }));
    let type_of = |args: &[ColumnarValue]| -> EngineResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(args)?;
        let names = cast(&arrays[0], &DataType::Utf8)?;
        let oids = names.as_string::<i32>().iter().map(|name| name.and_then(types::oid_of));
        Ok(ColumnarValue::Array(Arc::new(oids.collect::<Int32Array>())))
    };
    let (text, number) = (vec![DataType::Utf8], DataType::Int32);
    session.register_udf(create_udf("to_regtype", text, number, Volatility::Stable, Arc::new(type_of)));
}

/// Makes a function known that tells something of a relation by its number.
pub(super) fn register_lookup(
    session: &SessionContext,
    name: &str,
    known: HashMap<i32, ScalarValue>,
    unknown: ScalarValue,
) {
    let return_type = unknown.data_type();
    let run = move |args: &[ColumnarValue]| -> EngineResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(args)?;
        let oids = cast(&arrays[0], &DataType::Int32)?;
        let oids = oids.as_primitive::<Int32Type>();
        let values = oids.iter().map(|oid| oid.and_then(|oid| known.get(&oid)).unwrap_or(&unknown).clone());
        let values: Vec<ScalarValue> = values.collect();
        if values.is_empty() {
            return Ok(ColumnarValue::Array(new_empty_array(&unknown.data_type())));
        }
        Ok(ColumnarValue::Array(ScalarValue::iter_to_array(values)?))
    };
    let any = vec![TypeSignature::Any(1), TypeSignature::Any(2)];
    let signature = Signature::one_of(any, Volatility::Stable);
    let function = SimpleScalarUDF::new_with_signature(name, signature, return_type, Arc::new(run));
    session.register_udf(ScalarUDF::new_from_impl(function));
}

/// `plan`, asked by this user.
pub(super) fn with_user(plan: LogicalPlan, user: &str) -> Result<LogicalPlan> {
    let function = Arc::new(constant(SESSION_USER, ScalarValue::Utf8(Some(user.to_string()))));
    let plan = plan.transform_up_with_subqueries(|node| {
        node.map_expressions(|expr| {
            expr.transform_up(|expr| match expr {
                Expr::ScalarFunction(mut call) if call.func.name() == SESSION_USER => {
                    // Of the same name, so that no column is called otherwise.
                    call.func = Arc::clone(&function);
                    Ok(Transformed::yes(Expr::ScalarFunction(call)))
                }
                other => Ok(Transformed::no(other)),
            })
        })
    })?;
    Ok(plan.data)
}

fn constant(name: &'static str, value: ScalarValue) -> ScalarUDF {
    let any = vec![TypeSignature::Nullary, TypeSignature::VariadicAny];
    ScalarUDF::new_from_impl(Constant { name, value, signature: Signature::one_of(any, Volatility::Stable) })
}

/// Says the same whatever it is asked.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Constant {
    name: &'static str,
    value: ScalarValue,
    signature: Signature,
}

impl ScalarUDFImpl for Constant {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

fn one_or_two_texts() -> Signature {
    let texts = vec![
        TypeSignature::Exact(vec![DataType::Utf8]),
        TypeSignature::Exact(vec![DataType::Utf8, DataType::Boolean]),
    ];
    Signature::one_of(texts, Volatility::Stable)
}

/// `current_setting(name [, missing_ok])`: the setting as it is when nobody sets it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CurrentSetting {
    signature: Signature,
}

impl ScalarUDFImpl for CurrentSetting {
    fn name(&self) -> &str {
        "current_setting"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let of_each_row = args.args.iter().any(|arg| matches!(arg, ColumnarValue::Array(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let missing_ok = arrays.get(1).and_then(|array| array.as_boolean_opt());
        let missing_ok = missing_ok.is_some_and(|array| !array.is_empty() && array.value(0));
        let names = cast(&arrays[0], &DataType::Utf8)?;
        let mut values = Vec::new();
        for name in names.as_string::<i32>() {
            let value = name.and_then(settings::default);
            if let (Some(name), None, false) = (name, value, missing_ok) {
                return exec_err!("unrecognized configuration parameter \"{name}\"");
            }
            values.push(value);
        }
        if !of_each_row {
            let value = values.first().copied().flatten().map(str::to_string);
            return Ok(ColumnarValue::Scalar(ScalarValue::Utf8(value)));
        }
        let values: ArrayRef = Arc::new(StringArray::from(values));
        Ok(ColumnarValue::Array(values))
    }
}
