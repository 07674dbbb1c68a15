//! `twofold up`: everything in one process, until a signal.

use crate::args::UpArgs;
use crate::node::{Listen, Shutdown, Site, Up, told};
use crate::text::print;
use anyhow::Result;
use std::path::Path;
use twofold_common::Functions;

pub(crate) async fn run(dir: &Path, functions: &Functions, args: &UpArgs, command: &str) -> Result<()> {
    let site = Site::load(dir, functions).await?;
    let shutdown = Shutdown::on_signals()?;
    let listen = Listen { serve: args.listen, speed: None, flight: args.flight_listen };
    let up = Up::start(site, listen, command, &shutdown).await?;
    print(format!("twofold is up at {}\n{}", up.url(), told(up.flight())))?;
    up.wait().await
}
