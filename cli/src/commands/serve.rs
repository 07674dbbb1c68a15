//! `twofold serve`: serving alone, until a signal. It may start before the speed layer; queries wait for that one.

use crate::args::ServeArgs;
use crate::node::{Entrance, FoundSpeed, Layer, Listen, Reload, RunFile, Shutdown, Site, join};
use crate::text::print;
use anyhow::Result;
use std::path::Path;
use std::sync::Arc;
use tokio::task::JoinSet;
use twofold_common::{Functions, Intake};
use twofold_serving::{Limits, Serving};

pub(crate) async fn run(dir: &Path, functions: &Functions, args: &ServeArgs) -> Result<()> {
    let site = Site::load(dir, functions).await?;
    let entrance = Entrance::of_serving(&site, &Listen::of(args)).take().await?;
    let shutdown = Shutdown::on_signals()?;
    let stores = site.stores().await?;
    let entrance = entrance.gated(&stores).await?;
    let speed = FoundSpeed::of(&site);
    if !speed.is_running().await {
        tracing::warn!(url = speed.url(), "no speed layer answers yet: queries fail until one does");
    }
    let versions = site.versions(&stores).await;
    let serving =
        Serving::with_versions(versions, stores.archive.clone(), stores.batch_views.clone(), Arc::new(speed));
    let serving = Arc::new(serving.with_limits(Limits::new(&site.project.config.limits)));
    let running = entrance.running();
    let mut tasks = JoinSet::new();
    let intake = Arc::new(Intake::new(&site.project.config.ingest));
    let app = twofold_serving::app_with(Arc::clone(&serving), intake);
    entrance.open_serving(app, &serving, &mut tasks, &shutdown)?;
    tasks.spawn(Reload::of_serving(&site, &stores, serving).run(shutdown.clone()));
    let run_file = RunFile::publish(site.data_dir(), Layer::Serve, &running).await?;
    if run_file.is_none() {
        tracing::warn!("another server of this project was first: commands go to that one");
    }
    print(format!("twofold serve is up at {}\n", running.told()))?;
    join(&mut tasks).await
}
