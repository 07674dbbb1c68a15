//! How long a value takes, ours and the engine's: `cargo test --release exact::tests::speed -- --ignored --nocapture`

use super::*;
use std::hint::black_box;

/// Nanoseconds a value, in batches of 8192 rows of 1000 groups.
#[allow(clippy::disallowed_methods)]
fn nanoseconds(f: &AggregateUDF, columns: &[ArrayRef], groups: &[usize]) -> f64 {
    let mut accumulator = many(f, &types(columns));
    let rounds = 100;
    let start = std::time::Instant::now();
    for _ in 0..rounds {
        accumulator.update_batch(black_box(columns), groups, None, 1000).unwrap();
    }
    black_box(accumulator.evaluate(EmitTo::All).unwrap());
    start.elapsed().as_nanos() as f64 / (rounds * groups.len()) as f64
}

#[test]
#[ignore = "measures"]
fn a_value_costs() {
    let row = |i: usize| ((i * 2_654_435_761) % 1_000_003) as f64;
    let prices: Vec<f64> = (0..8192).map(|i| (row(i) / 100.0).round() / 100.0).collect();
    let wild: Vec<f64> = (0..8192).map(|i| (row(i) / 1e4 - 50.0).exp() * row(i + 1).sin()).collect();
    let groups: Vec<usize> = (0..8192).map(|i| (i * 7919) % 1000).collect();
    let engine = |name: &str| {
        let all = datafusion::functions_aggregate::all_default_aggregate_functions();
        AggregateUDF::clone(all.iter().find(|f| f.name() == name).unwrap())
    };
    for (data, values) in [("prices", &prices), ("wild", &wild)] {
        for name in ["sum", "avg", "max", "var", "corr"] {
            let columns = if name == "corr" { vec![doubles(values); 2] } else { vec![doubles(values)] };
            let [ours, theirs] = [function(name), engine(name)].map(|f| nanoseconds(&f, &columns, &groups));
            println!("{data:8}{name:6}{ours:7.1} ns ours{theirs:7.1} ns theirs{:6.1}x", ours / theirs);
        }
        let mut states = many(&function("sum"), &[DataType::Float64]);
        states.update_batch(&[doubles(values)], &groups, None, 1000).unwrap();
        let state = states.state(EmitTo::All).unwrap();
        println!("{data:8}state of sum: {} bytes a group", state[0].to_data().buffers()[1].len() / 1000);
    }
}
