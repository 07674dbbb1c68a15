//! The commands: one file each.

mod batch;
mod check;
mod gc;
mod ingest;
mod init;
mod query;
mod serve;
mod speed;
mod status;
mod up;

pub(crate) use batch::batch;

use crate::args::{Args, Command};
use crate::demo;
use crate::outcome::Outcome;
use anyhow::Result;

pub(crate) async fn run(args: Args) -> Result<Outcome> {
    let (dir, name) = (&args.project, args.command.name());
    match args.command {
        Command::Init(args) => init::run(&args)?,
        Command::Check(args) => check::run(dir, &args).await?,
        Command::Up(args) => up::run(dir, &args, name).await?,
        Command::Speed(args) => speed::run(dir, &args, name).await?,
        Command::Serve(args) => serve::run(dir, &args).await?,
        Command::Batch(args) => return batch::run(dir, &args, name).await,
        Command::Ingest(args) => ingest::run(dir, &args, name).await?,
        Command::Query(args) => query::run(dir, &args, name).await?,
        Command::Gc(args) => gc::run(dir, &args, name).await?,
        Command::Status(args) => status::run(dir, &args, name).await?,
        Command::Demo(args) => return demo::run(&args).await,
    }
    Ok(Outcome::Done)
}
