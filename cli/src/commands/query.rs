//! `twofold query`: the answer to one query, whole or not at all.

use crate::args::QueryArgs;
use crate::coverage::coverage_lines;
use crate::format::{Output, render};
use crate::node::Door;
use crate::text::print;
use anyhow::{Result, bail};
use std::io::IsTerminal;
use std::path::Path;
use twofold_common::Functions;

pub(crate) async fn run(dir: &Path, functions: &Functions, args: &QueryArgs, command: &str) -> Result<()> {
    if args.format == Output::Arrow && std::io::stdout().is_terminal() {
        bail!("an Arrow stream is not for a terminal: redirect it to a file");
    }
    let door = Door::open(dir, functions, Some(&args.sql), command).await?;
    let rows = door.query(&args.sql).await?;
    let bytes = render(&rows, args.format)?;
    if args.coverage {
        eprint!("{}", coverage_lines(&rows.coverage));
    }
    if rows.previous {
        eprintln!("note: the project has changed and is being built; this is the answer of the one before");
    }
    print(bytes)
}
