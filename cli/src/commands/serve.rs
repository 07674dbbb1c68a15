//! `twofold serve`: serving alone, until a signal. It may start before the speed layer; queries wait for that one.

use crate::args::ServeArgs;
use crate::node::{
    FoundSpeed, Layer, Listener, Reload, RunFile, SERVE_SETTING, Shutdown, Site, bind_flight, join,
    spawn_flight, spawn_server, told,
};
use crate::text::print;
use anyhow::Result;
use std::path::Path;
use std::sync::Arc;
use tokio::task::JoinSet;
use twofold_common::{Functions, Intake};
use twofold_serving::Serving;

pub(crate) async fn run(dir: &Path, functions: &Functions, args: &ServeArgs) -> Result<()> {
    let site = Site::load(dir, functions).await?;
    let address = args.listen.unwrap_or(site.project.config.serve.listen);
    let listener = Listener::bind(address, SERVE_SETTING).await?;
    let flight = bind_flight(&site.project.config.serve, args.flight_listen, address).await?;
    let shutdown = Shutdown::on_signals()?;
    let stores = site.stores().await?;
    let speed = FoundSpeed::of(&site);
    if !speed.is_running().await {
        tracing::warn!(url = speed.url(), "no speed layer answers yet: queries fail until one does");
    }
    let versions = site.versions(&stores).await;
    let serving =
        Serving::with_versions(versions, stores.archive.clone(), stores.batch_views.clone(), Arc::new(speed));
    let serving = Arc::new(serving);
    let url = listener.url();
    let mut tasks = JoinSet::new();
    let intake = Arc::new(Intake::new(&site.project.config.ingest));
    let app = twofold_serving::app_with(Arc::clone(&serving), intake);
    spawn_server(&mut tasks, listener, app, &shutdown);
    let flight = flight.map(|listener| spawn_flight(&mut tasks, listener, Arc::clone(&serving), &shutdown));
    tasks.spawn(Reload::of_serving(&site, &stores, serving).run(shutdown.clone()));
    let run_file = RunFile::publish_with(site.data_dir(), Layer::Serve, &url, flight.as_deref()).await?;
    if run_file.is_none() {
        tracing::warn!("another server of this project was first: commands go to that one");
    }
    print(format!("twofold serve is up at {url}\n{}", told(flight.as_deref())))?;
    join(&mut tasks).await
}
