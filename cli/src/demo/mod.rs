//! `twofold demo`: a year of flights through the whole platform, compared with a plain query to the bit.
//!
//! Everything is real: a project in a directory of its own, the server of `twofold up` on sockets of its own, events as
//! NDJSON over HTTP in the order in which they happened, a batch run in the middle. Then each maintained view is asked
//! for over HTTP, and compared with its SQL run by DataFusion alone over the source files. The directory is removed
//! at the end, also when interrupted.

mod compare;
mod data;
mod feed;
mod plain;
mod show;

use crate::args::{BatchArgs, DemoArgs};
use crate::client::Client;
use crate::clock::Stopwatch;
use crate::commands::batch;
use crate::node::{Listen, Shutdown, Site, Up};
use crate::outcome::Outcome;
use crate::text::{columns, count, duration, print};
use anyhow::{Context, Result, bail};
use plain::Plain;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use twofold_batch::ViewReport;
use twofold_common::{Functions, Listening};
use twofold_serving::Rows;

const COMMAND: &str = "twofold demo";
const SHOWN_VIEW: &str = "delays_by_airline";
const SHOWN_SQL: &str = "SELECT * FROM delays_by_airline ORDER BY flights DESC";
const TIME: &str = "event_time";
/// How often the query is asked to time it.
const ASKED: usize = 25;
/// How long the speed layer may take to fold what was acknowledged.
const FOLDED_WITHIN: Duration = Duration::from_secs(60);

pub(crate) async fn run(args: &DemoArgs) -> Result<Outcome> {
    let dir =
        tempfile::Builder::new().prefix("twofold-demo-").tempdir().context("a directory for the demo")?;
    data::write(dir.path())?;
    let (stopper, shutdown) = Shutdown::new();
    let signals = Shutdown::on_signals()?;
    let free = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let beside = free.map(Listening::At);
    let listen = Listen { serve: free, speed: free, pg: beside, flight: beside, insecure: false };
    let up = Up::start(Site::load(dir.path(), &Functions::new()).await?, listen, COMMAND, &shutdown).await?;
    let outcome = tokio::select! {
        outcome = demo(&up) => outcome,
        () = signals.requested() => Err(anyhow::anyhow!("interrupted; the demo's project is removed")),
    };
    if args.keep && outcome.is_ok() {
        print(show::kept(up.url(), dir.path(), SHOWN_SQL))?;
        signals.requested().await;
    }
    stopper.stop();
    let stopped = up.wait().await;
    let path = dir.path().display().to_string();
    dir.close().with_context(|| format!("removing {path}"))?;
    let outcome = outcome?;
    stopped.map(|()| outcome)
}

async fn demo(up: &Up) -> Result<Outcome> {
    let (site, client) = (up.site(), Client::new(up.url())?);
    let events = plain::events(data::EVENTS, &site.project.streams[data::STREAM], TIME)?;
    let total = events.num_rows();
    print(format!(
        "project {}, server {}\n{} flights of 2013 in the order of their departure, as NDJSON over HTTP\n",
        site.project.dir.display(),
        up.url(),
        count(total as u64)
    ))?;

    let mut feed = feed::Feed::new(&client, &events);
    feed.send(total / 2).await?;
    let incremental = batch(site, &BatchArgs::default(), COMMAND).await?;
    let segments = incremental.iter().map(|report| report.segments).max().unwrap_or(0);
    print(format!("a batch at half of them: {} views from {segments} segments\n", incremental.len()))?;
    feed.send(total).await?;

    let plain = Plain::new(&site.project, data::STREAM, events.clone()).await?;
    let answer = ask(&client, SHOWN_SQL, &feed).await?;
    print(format!("\n{SHOWN_SQL}\n{}", show::answer(&answer)?))?;
    let (schema, batches) = plain.query(&plain_sql(site)?).await?;
    let alone = show::rows(&Rows { schema, batches, coverage: vec![], previous: false })?;
    print(format!("\nits SQL over flights.parquet and airlines.csv, by DataFusion alone\n{alone}"))?;
    let views_equal = compare(site, &client, &plain).await?;

    let watch = Stopwatch::start();
    let full = batch(site, &BatchArgs { full: true, view: None }, COMMAND).await?;
    let full_batch = watch.elapsed();
    let layers_agree = incremental.iter().chain(&full).all(ViewReport::agrees);
    print(show::measures(&feed, full_batch, time_query(&client).await?))?;
    Ok(match (views_equal, layers_agree) {
        (true, true) => {
            print("equal to the bit\n")?;
            Outcome::Done
        }
        (false, _) => {
            print("NOT EQUAL: see above\n")?;
            Outcome::Different
        }
        (true, false) => {
            print(
                "NOT EQUAL: batch and speed layer, or full and incremental batch, disagree: see `twofold status`\n",
            )?;
            Outcome::Different
        }
    })
}

/// The query that is shown, over the source files: the view's own SQL in the place of its name.
fn plain_sql(site: &Site) -> Result<String> {
    let view = site.catalog.view(SHOWN_VIEW)?;
    Ok(SHOWN_SQL.replace(SHOWN_VIEW, &format!("({})", view.sql())))
}

/// The answer, when it covers everything that was acknowledged.
async fn ask(client: &Client, sql: &str, feed: &feed::Feed<'_>) -> Result<Rows> {
    let watch = Stopwatch::start();
    loop {
        let rows = client.query(sql).await?;
        if feed.is_covered_by(&rows.coverage) {
            return Ok(rows);
        }
        if watch.elapsed() > FOLDED_WITHIN {
            bail!("the speed layer has not folded all events after {}", duration(FOLDED_WITHIN));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Compares each maintained view; tells in what they differ.
async fn compare(site: &Site, client: &Client, plain: &Plain) -> Result<bool> {
    let mut lines = Vec::new();
    let mut told = Vec::new();
    for view in site.catalog.views().values() {
        let name = view.name();
        let merged = client.query(&format!("SELECT * FROM {name}")).await?;
        let (schema, batches) = plain.query(view.sql()).await?;
        let found = compare::differences((&merged.schema, &merged.batches), (&schema, &batches))
            .with_context(|| format!("comparing {name}"))?;
        let result = if found.is_empty() { "equal" } else { "DIFFERENT" };
        lines.push(vec![name.to_string(), count(merged.num_rows() as u64), result.to_string()]);
        told.extend(found.into_iter().map(|difference| format!("{name}: {difference}\n")));
    }
    let lines = columns(
        &["view", ">rows", "compared with its SQL over the source files, all columns of all rows"],
        &lines,
    );
    print(format!("\n{lines}{}", told.concat()))?;
    Ok(told.is_empty())
}

async fn time_query(client: &Client) -> Result<Duration> {
    let mut times = Vec::with_capacity(ASKED);
    for _ in 0..ASKED {
        let watch = Stopwatch::start();
        client.query(SHOWN_SQL).await?;
        times.push(watch.elapsed());
    }
    times.sort();
    Ok(times[ASKED / 2])
}
