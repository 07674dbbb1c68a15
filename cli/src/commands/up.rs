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
    let up =
        Up::start(site, Listen { serve: args.listen, speed: None, pg: args.pg_listen }, command, &shutdown)
            .await?;
    let pg = up.pg_url().map(|url| format!(", and {url}")).unwrap_or_default();
    print(format!("twofold is up at {}{pg}\n", up.url()))?;
    up.wait().await
}
