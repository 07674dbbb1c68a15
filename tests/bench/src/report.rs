//! What was measured: as lines for people while it goes on, and as JSON.

use crate::measure::{Cost, Spread};
use anyhow::Result;
use serde_json::{Value, json};

/// All figures of a run of the benchmark.
pub(crate) struct Report {
    runs: usize,
    part: &'static str,
    figures: Vec<Value>,
}

impl Report {
    /// One in which each figure is measured so often.
    pub(crate) fn new(runs: usize) -> Self {
        Self { runs, part: "", figures: Vec::new() }
    }

    /// How often each figure is measured.
    pub(crate) fn runs(&self) -> usize {
        self.runs
    }

    /// Begins a part.
    pub(crate) fn part(&mut self, name: &'static str, what: &str) {
        self.part = name;
        println!("\n{name}: {what}");
    }

    /// Takes down what `costs` were, each for `units` of work, in `unit` per second and CPU seconds per million.
    pub(crate) fn figure(&mut self, name: &str, units: f64, unit: &str, costs: &[Cost]) -> Spread {
        let rate = Spread::of(costs.iter().map(|cost| units / cost.wall.as_secs_f64()).collect());
        let cpu: Option<Vec<f64>> =
            costs.iter().map(|cost| Some(cost.cpu?.as_secs_f64() * 1e6 / units)).collect();
        let cpu = cpu.map(Spread::of);
        let told = cpu.map_or_else(String::new, |cpu| {
            format!("  {:7.3} CPU s/M ({:.3}–{:.3})", cpu.median, cpu.least, cpu.most)
        });
        println!(
            "  {name:44} {:>10} {unit}/s ({}–{}){told}",
            short(rate.median),
            short(rate.least),
            short(rate.most)
        );
        self.figures.push(json!({
            "part": self.part, "name": name, "unit": unit,
            "per_second": rate.median, "least": rate.least, "most": rate.most,
            "cpu_s_per_million": cpu.map(|cpu| cpu.median),
        }));
        rate
    }

    /// Takes down a number that follows from others, such as a ratio, and what it should be.
    pub(crate) fn derived(&mut self, name: &str, value: f64, aim: Option<&str>) {
        println!(
            "  {name:44} {value:>10.3}{}",
            aim.map_or_else(String::new, |aim| format!("   (aim: {aim})"))
        );
        self.figures.push(json!({ "part": self.part, "name": name, "value": value, "aim": aim }));
    }

    /// All of it as JSON.
    pub(crate) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(&json!({ "runs": self.runs, "figures": self.figures }))?)
    }
}

/// `1234567.0` as `1.23M`.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.2}M", value / 1e6),
        value if value >= 1e4 => format!("{:.1}k", value / 1e3),
        value => format!("{value:.1}"),
    }
}
