//! The project that is measured: the stream of the Yahoo streaming benchmark, and views over it.

use crate::events;
use anyhow::Result;
use arrow::array::RecordBatch;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use twofold_common::{Archive, BatchViews, Catalog, Folder, Log, Project, Store, StreamDef, View};
use twofold_speed::log::EmbeddedLog;
use twofold_speed::{Engine, EngineConfig};

/// The stream.
pub(crate) const STREAM: &str = "events";

const STREAM_SQL: &str =
    "CREATE STREAM events (user_id TEXT NOT NULL, page_id TEXT NOT NULL, ad_id TEXT NOT NULL,
  ad_type TEXT, event_type TEXT, event_time TIMESTAMP NOT NULL, ip_address TEXT,
  WATERMARK FOR event_time AS event_time - INTERVAL '5 seconds');
CREATE TABLE campaigns (ad_id TEXT, campaign_id TEXT) WITH (path = 'campaigns.csv');
";

/// The benchmark's own view: views of advertisements by campaign and 10 seconds.
pub(crate) const TUMBLING: (&str, &str) = (
    "campaigns_10s",
    "SELECT c.campaign_id, tumble(e.event_time, INTERVAL '10 seconds') AS w, count(*) AS views,
       max(e.event_time) AS last FROM events e JOIN campaigns c ON e.ad_id = c.ad_id
     WHERE e.event_type = 'view' GROUP BY 1, 2",
);
/// Many groups: one for each user.
pub(crate) const USERS: (&str, &str) = (
    "users",
    "SELECT user_id, count(*) AS n, approx_distinct(page_id) AS pages FROM events GROUP BY user_id",
);
/// Windows of 10 minutes that begin each second.
pub(crate) const SLIDING: (&str, &str) = (
    "campaigns_sliding",
    "SELECT c.campaign_id, hop(e.event_time, INTERVAL '1 second', INTERVAL '10 minutes') AS w, count(*) AS views,
       max(e.event_time) AS last FROM events e JOIN campaigns c ON e.ad_id = c.ad_id
     WHERE e.event_type = 'view' GROUP BY 1, 2",
);

/// The same windows, without overlap.
pub(crate) const TUMBLING_10M: (&str, &str) = (
    "campaigns_10m",
    "SELECT c.campaign_id, tumble(e.event_time, INTERVAL '10 minutes') AS w, count(*) AS views,
       max(e.event_time) AS last FROM events e JOIN campaigns c ON e.ad_id = c.ad_id
     WHERE e.event_type = 'view' GROUP BY 1, 2",
);

/// What folds events into the states of a view of one cut.
pub(crate) async fn folder(catalog: &Catalog, of: (&str, &str)) -> Result<Folder> {
    let schema = |name: &str| Ok(catalog.stream(name)?.event_schema());
    Ok(Folder::try_new(catalog.session(), &view(catalog, of)?.cuts()[0], schema).await?)
}

/// A view's query as the engine knows it without us.
pub(crate) fn plain(query: &str) -> String {
    query.replace(
        "tumble(e.event_time, INTERVAL '10 seconds')",
        "date_bin(INTERVAL '10 seconds', e.event_time)",
    )
}

/// The table of campaigns in memory, for the engine without us.
pub(crate) async fn with_campaigns(context: &SessionContext, dir: &Path) -> Result<()> {
    let path = dir.join("campaigns.csv");
    context.register_csv("campaigns", path.to_string_lossy(), Default::default()).await?;
    let campaigns = context.table("campaigns").await?.collect().await?;
    context.deregister_table("campaigns")?;
    if let Some(schema) = campaigns.first().map(RecordBatch::schema) {
        context.register_table("campaigns", Arc::new(MemTable::try_new(schema, vec![campaigns])?))?;
    }
    Ok(())
}

/// Some of a dashboard's views, no two alike.
pub(crate) fn many(count: usize) -> Vec<(String, String)> {
    let keys = ["ad_type", "event_type", "ad_id", "page_id"];
    let values = ["count(*)", "max(event_time)", "min(event_time)", "approx_distinct(user_id)"];
    let view = |i: usize| {
        let (key, value, seconds) = (keys[i % 4], values[(i / 4) % 4], 10 * (1 + i / 16));
        let sql = format!(
            "SELECT {key}, tumble(event_time, INTERVAL '{seconds} seconds') AS w, count(*) AS n, {value} AS v \
             FROM events GROUP BY 1, 2"
        );
        (format!("view_{i}"), sql)
    };
    (0..count).map(view).collect()
}

/// Writes a project with these views into an empty directory, and loads it.
pub(crate) async fn catalog(
    dir: &Path,
    views: &[(impl AsRef<str>, impl AsRef<str>)],
) -> Result<Arc<Catalog>> {
    let mut sql = STREAM_SQL.to_string();
    for (name, query) in views {
        sql += &format!("CREATE MATERIALIZED VIEW {} AS {};\n", name.as_ref(), query.as_ref());
    }
    std::fs::write(dir.join("twofold.toml"), "")?;
    std::fs::write(dir.join("views.sql"), sql)?;
    std::fs::write(dir.join("campaigns.csv"), events::campaigns())?;
    Ok(Arc::new(Catalog::new(&Project::load(dir)?).await?))
}

/// The stream's definition.
pub(crate) fn stream(catalog: &Catalog) -> Result<&StreamDef> {
    Ok(catalog.stream(STREAM)?)
}

fn view<'a>(catalog: &'a Catalog, (name, _): (&str, &str)) -> Result<&'a Arc<View>> {
    Ok(catalog.view(name)?)
}

/// The speed layer of a project, on disk below `dir`, with the settings that users have unless they change them.
pub(crate) async fn engine(dir: &Path, catalog: &Arc<Catalog>) -> Result<Arc<Engine>> {
    let def = stream(catalog)?;
    let streams = [def.clone(), def.rejected()];
    let store = Store::open("store", dir)?;
    let (archive, views) = (Archive::new(store.clone()), BatchViews::new(store));
    for stream in &streams {
        archive.declare_empty(stream).await?;
    }
    let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(&dir.join("log.redb"), &streams)?);
    let config = twofold_common::Config::default();
    let config = EngineConfig {
        state_path: dir.join("state.redb"),
        epoch_rows: config.speed.epoch_rows,
        epoch_interval: config.speed.epoch_interval,
        segment_rows: config.archive.segment_rows,
        segment_age: Duration::MAX,
        retire_grace: config.speed.retire_grace,
    };
    let clock = Arc::new(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    });
    Ok(Engine::open(config, Arc::clone(catalog), log, archive, views, clock).await?)
}
