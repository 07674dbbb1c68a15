//! `twofold up`: everything in one process, until a signal.

use crate::args::UpArgs;
use crate::node::{Listen, Shutdown, Site, Up};
use crate::text::print;
use anyhow::Result;
use std::path::Path;
use twofold_common::Functions;

pub(crate) async fn run(dir: &Path, functions: &Functions, args: &UpArgs, command: &str) -> Result<()> {
    let site = Site::load(dir, functions).await?;
    let shutdown = Shutdown::on_signals()?;
    let (pg, flight, insecure) = (args.pg_listen, args.flight_listen, args.insecure_listen);
    let listen = Listen { serve: args.listen, speed: None, pg, flight, insecure };
    let up = Up::start(site, listen, command, &shutdown).await?;
    print(format!("twofold is up at {}\n", up.running().told()))?;
    up.wait().await
}
