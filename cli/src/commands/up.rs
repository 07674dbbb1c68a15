//! `twofold up`: everything in one process, until a signal.

use crate::args::ServeArgs;
use crate::node::{Listen, Shutdown, Site, Up};
use crate::text::print;
use anyhow::Result;
use std::path::Path;
use twofold_common::Functions;

pub(crate) async fn run(dir: &Path, functions: &Functions, args: &ServeArgs, command: &str) -> Result<()> {
    let site = Site::load(dir, functions).await?;
    let shutdown = Shutdown::on_signals()?;
    let up = Up::start(site, Listen::of(args), command, &shutdown).await?;
    print(format!("twofold is up at {}\n", up.running().told()))?;
    up.wait().await
}
