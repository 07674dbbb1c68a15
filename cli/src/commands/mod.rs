//! The commands: one file each.

mod audit;
#[cfg(test)]
mod audit_tests;
mod batch;
mod check;
mod explain;
mod gc;
mod ingest;
mod init;
mod query;
mod repair;
mod serve;
mod speed;
mod status;
mod token;
mod up;
mod watch;

pub(crate) use batch::batch;

use crate::args::{Args, Command};
use crate::demo;
use crate::outcome::Outcome;
use anyhow::Result;
use twofold_common::Functions;

pub(crate) async fn run(args: Args, functions: &Functions) -> Result<Outcome> {
    let (dir, name) = (&args.project, args.command.name());
    match args.command {
        Command::Init(args) => init::run(&args)?,
        Command::Check(args) => check::run(dir, functions, &args).await?,
        Command::Up(args) => up::run(dir, functions, &args, name).await?,
        Command::Speed(args) => speed::run(dir, functions, &args, name).await?,
        Command::Serve(args) => serve::run(dir, functions, &args).await?,
        Command::Batch(args) => return batch::run(dir, functions, &args, name).await,
        Command::Audit(args) => return audit::run(dir, functions, &args, name).await,
        Command::Ingest(args) => ingest::run(dir, functions, &args, name).await?,
        Command::Query(args) => query::run(dir, functions, &args, name).await?,
        Command::Watch(args) => watch::run(dir, &args).await?,
        Command::Gc(args) => gc::run(dir, functions, &args, name).await?,
        Command::Repair(args) => return repair::run(dir, functions, &args, name).await,
        Command::Status(args) => status::run(dir, functions, &args, name).await?,
        Command::Token(args) => token::run(dir, functions, &args).await?,
        Command::Demo(args) => return demo::run(&args).await,
    }
    Ok(Outcome::Done)
}
