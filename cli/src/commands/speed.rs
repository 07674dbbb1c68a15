//! `twofold speed`: the speed layer alone, until a signal, or once over what is in the log.

use crate::args::SpeedArgs;
use crate::node::{DataLock, Entrance, Layer, Listen, Reload, RunFile, Shutdown, Site, SpeedNode, join};
use crate::progress::{watch_building, while_building};
use crate::text::{counted, print};
use anyhow::Result;
use std::path::Path;
use std::sync::Arc;
use tokio::task::JoinSet;
use twofold_common::{Functions, Intake, SpeedLayer};

pub(crate) async fn run(dir: &Path, functions: &Functions, args: &SpeedArgs, command: &str) -> Result<()> {
    let site = Site::load(dir, functions).await?;
    DataLock::check(site.data_dir())?;
    if args.once { once(&site, command).await } else { serve(&site, args.insecure_listen, command).await }
}

async fn once(site: &Site, command: &str) -> Result<()> {
    let stores = site.stores().await?;
    let node = SpeedNode::open(site, &stores, command).await?;
    let before = folded(&node).await?;
    while_building(node.layer(), node.catch_up()).await?;
    let new = folded(&node).await?.saturating_sub(before);
    let views = counted(site.catalog.views().len() as u64, "view");
    print(format!("folded {} into {views}; the log has no more\n", counted(new, "new event")))
}

/// How far all partitions are, together.
async fn folded(node: &SpeedNode) -> Result<u64> {
    Ok(node.engine().status().await?.partitions.iter().map(|p| p.folded).sum())
}

async fn serve(site: &Site, insecure: bool, command: &str) -> Result<()> {
    let entrance = Entrance::of_speed(site, &Listen { insecure, ..Listen::default() }).take().await?;
    let shutdown = Shutdown::on_signals()?;
    let stores = site.stores().await?;
    let entrance = entrance.gated(&stores).await?;
    let node = SpeedNode::open(site, &stores, command).await?;
    let mut tasks = JoinSet::new();
    node.start(&shutdown, &mut tasks)?;
    let running = entrance.running();
    let intake = Arc::new(Intake::new(&site.project.config.ingest));
    entrance.open(twofold_speed::app_with(node.layer(), intake), &mut tasks, &shutdown)?;
    tasks.spawn(watch_building(node.layer(), shutdown.clone()));
    tasks.spawn(Reload::of_node(&node, &stores, None).run(shutdown.clone()));
    let _run_file = RunFile::publish(site.data_dir(), Layer::Speed, &running).await?;
    print(format!("twofold speed is up at {}\n", running.url))?;
    join(&mut tasks).await
}
