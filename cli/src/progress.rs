//! Progress: bars on stderr, on a terminal only, and views that are being built.

use crate::node::Shutdown;
use crate::text::count;
use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use twofold_common::{SpeedLayer, SpeedStatus};

/// How often views that are being built are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// Where there is no bar, every so many looks a line is logged.
const LOOKS_A_LINE: u32 = 20;

/// What a bar counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Bytes,
    Events,
    Segments,
}

/// A bar up to `length`; without one, a counter.
pub(crate) fn bar(length: Option<u64>, unit: Unit, message: impl Into<Cow<'static, str>>) -> ProgressBar {
    let style = ProgressStyle::with_template(template(length.is_some(), unit));
    let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
        let _ = write!(out, "{}/s", count(state.per_sec() as u64));
    };
    let style =
        style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ").with_key("rate", rate);
    let target = ProgressDrawTarget::stderr();
    ProgressBar::with_draw_target(length, target).with_style(style).with_message(message)
}

fn template(has_length: bool, unit: Unit) -> &'static str {
    match (has_length, unit) {
        (true, Unit::Bytes) => {
            "{msg} [{wide_bar}] {binary_bytes:>10} of {binary_total_bytes} {binary_bytes_per_sec} {eta}"
        }
        (true, Unit::Events) => "{msg} [{wide_bar}] {human_pos:>9} of {human_len} events {rate} {eta}",
        (true, Unit::Segments) => "{msg} [{wide_bar}] {human_pos} of {human_len} segments {eta}",
        (false, Unit::Bytes) => "{msg} {binary_bytes} {binary_bytes_per_sec}",
        (false, _) => "{msg} {human_pos}",
    }
}

/// Shows how far views are that are being built, until the switch is flipped.
pub(crate) async fn watch_building(speed: Arc<dyn SpeedLayer>, shutdown: Shutdown) -> Result<()> {
    tokio::select! {
        () = shutdown.requested() => {}
        () = look(speed.as_ref()) => {}
    }
    Ok(())
}

/// Does `work`, and shows how far views are that are being built meanwhile.
pub(crate) async fn while_building<T>(
    speed: Arc<dyn SpeedLayer>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        done = work => done,
        () = look(speed.as_ref()) => std::future::pending().await,
    }
}

/// Looks again and again; never ends.
async fn look(speed: &dyn SpeedLayer) {
    let mut bars = BTreeMap::new();
    for turn in 0_u32.. {
        tokio::time::sleep(LOOK).await;
        // What is wrong with the speed layer is told by those who need it.
        if let Ok(status) = speed.status().await {
            show(&mut bars, &status, turn % LOOKS_A_LINE == 0);
        }
    }
}

fn show(bars: &mut BTreeMap<String, ProgressBar>, status: &SpeedStatus, log: bool) {
    let building = |view: &str| status.views.iter().find(|v| v.view == view).and_then(|v| v.building);
    bars.retain(|view, bar| {
        let still = building(view).is_some();
        if !still {
            bar.finish_and_clear();
            tracing::info!(view, "view is built");
        }
        still
    });
    for view in &status.views {
        let Some((done, total)) = view.building else { continue };
        let new = || bar(Some(total), Unit::Events, format!("building {}", view.view));
        let bar = bars.entry(view.view.clone()).or_insert_with(new);
        bar.set_length(total);
        bar.set_position(done);
        if log && bar.is_hidden() {
            tracing::info!(view = view.view, done, total, "view is being built");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_one() {
        for has_length in [true, false] {
            for unit in [Unit::Bytes, Unit::Events, Unit::Segments] {
                ProgressStyle::with_template(template(has_length, unit)).unwrap();
            }
        }
    }
}
