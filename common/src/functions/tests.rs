//! What may be registered.

use super::*;
use arrow::datatypes::DataType;
use datafusion::logical_expr::{ColumnarValue, Volatility};
use datafusion::prelude::create_udf;

fn identity(name: &str) -> ScalarUDF {
    let same = |arguments: &[ColumnarValue]| Ok(arguments[0].clone());
    let (takes, gives) = (vec![DataType::Int64], DataType::Int64);
    create_udf(name, takes, gives, Volatility::Immutable, Arc::new(same))
}

fn refusal(function: ScalarUDF) -> String {
    Functions::new().scalar(function, 1).unwrap_err().to_string()
}

#[test]
fn a_function_is_found_by_each_of_its_names() {
    let mut functions = Functions::new();
    functions.scalar(identity("same").with_aliases(["equal"]), 7).unwrap();
    let versions = ["same", "equal", "other"].map(|name| functions.version(name));
    assert_eq!(versions, [Some(7), Some(7), None]);
    assert_eq!(format!("{functions:?}"), r#"{"same": 7}"#);
}

#[test]
fn no_name_is_registered_twice() {
    let mut functions = Functions::new();
    functions.scalar(identity("same").with_aliases(["equal"]), 1).unwrap();
    for again in ["same", "equal"] {
        let error = functions.scalar(identity(again), 2).unwrap_err().to_string();
        assert_eq!(error, format!("function {again} is registered twice: give one of them another name"));
        assert!(functions.scalar(identity("third").with_aliases([again]), 2).is_err());
    }
    assert!(functions.scalar(identity("fourth").with_aliases(["fourth"]), 2).is_err());
    assert_eq!(functions.registered.len(), 1, "what was refused left something behind");
}

#[test]
fn the_engines_names_are_taken() {
    for name in ["sum", "mean", "upper", "row_number", "generate_series", "array_length", "now"] {
        let error = refusal(identity(name));
        assert!(error.contains("the engine has a function of this name"), "{name}: {error}");
    }
    assert!(refusal(identity("mine").with_aliases(["count"])).contains("the engine has"));
}

#[test]
fn sql_finds_what_is_registered() {
    assert_eq!(
        refusal(identity("Same")),
        "function `Same`: SQL reads names in lower case, and would not find it: call it `same`"
    );
    for name in ["", "a b", "a.b", "1st", "unnest", "a(1), b", "x) --"] {
        let error = refusal(identity(name));
        assert!(
            error.contains("SQL does not read it") || error.contains("the engine has"),
            "{name}: {error}"
        );
    }
    for name in ["f", "geo_mean", "_x", "p95"] {
        Functions::new().scalar(identity(name), 1).unwrap();
    }
}
