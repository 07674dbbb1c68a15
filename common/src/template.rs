//! The project that `twofold init` writes: commented, and running as it is.

use crate::config::CONFIG_FILE;

/// The files of a new project called `name`: the name of each and its contents.
///
/// The project loads as it is. Each key of `twofold.toml` stands there with its default, commented out.
pub fn template(name: &str) -> Vec<(&'static str, String)> {
    let name: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    [(CONFIG_FILE, CONFIG), ("views.sql", VIEWS)]
        .map(|(file, contents)| (file, contents.replace("{name}", &name)))
        .to_vec()
}

const CONFIG: &str = r#"# {name}: a Twofold project. What is commented out is the default.

# The directory of the log and the states, seen from this one.
# data = "data"

# Where the archive and the batch views live: a directory, or a file:/// URL.
# Without it, `store` in the data directory.
# store = "data/store"

[archive]
# A segment of a stream is archived when it has this many events ...
# segment_rows = 1000000
# ... or when its first event is this old. Durations: 5ms, 10s, 10m, 1h, 1d.
# segment_age = "10m"

[ingest]
# How long the Idempotency-Key of a request is remembered: a repetition adds nothing.
# remember_keys = "1d"
# How much of requests with events is held in memory at once, and how many of them wait; the next ones are told to
# come back (HTTP 429).
# waiting = "256 MiB"
# waiting_requests = 1024
# How long a client may send nothing in the middle of a request.
# body_timeout = "30s"

[speed]
# Where the speed layer answers the other layers, when they run as processes of their own ...
# listen = "127.0.0.1:8661"
# ... and where those find it, if that is another address. No default.
# url = "http://127.0.0.1:8661"
# It speaks TLS if it has a certificate, which is read again when it changes; for a url with https, these authorities
# may vouch. PEM files; no default.
# tls_cert = "speed.pem"
# tls_key = "speed.key"
# ca = "ca.pem"
# The most events that are folded at once, and the least time between two folds.
# epoch_rows = 65536
# epoch_interval = "5ms"
# How long the speed layer keeps what a batch view already covers.
# retire_grace = "1m"

[serve]
# Where you ask: HTTP. Whoever reaches this address can read and write, until the first `twofold token create`.
# listen = "127.0.0.1:8660"
# The same for psql, drivers and dashboards that speak to PostgreSQL; "off": not at all. If this very port is taken by
# another project, a free one is.
# pg_listen = "127.0.0.1:8662"
# The same for ADBC and JDBC drivers of Arrow Flight SQL.
# flight_listen = "127.0.0.1:8663"
# It speaks TLS if it has a certificate, which is read again when it changes. PEM files; no default.
# tls_cert = "serve.pem"
# tls_key = "serve.key"
# The sites whose pages may ask from a browser, as "https://app.example.com". By default none but its own.
# allow_origins = []

[batch]
# When `twofold up` runs a batch: "every 1h", "daily 02:00" (UTC) or "off".
# schedule = "every 1h"

[tables]
# How often servers look whether the file of a table has changed; "0s": never.
# reload = "10s"

[memory]
# What the aggregates, sorts and joins of one process may take together before they go to disk. By default half of the
# machine's memory.
# limit = "4 GiB"

[limits]
# How long a query may take, how much memory (it goes to disk where it can), and how many rows an answer may have.
# query_timeout = "1m"
# query_memory = "1 GiB"
# max_rows = 1000000
# How many queries run at once, and how many more wait for their turn; the next ones are told to come back (HTTP 429).
# queries = 64
# queries_waiting = 256
# The same for the queries of one token, together.
# token_queries = 32
# token_memory = "2 GiB"

[alerts]
# Where a JSON document is posted when batch and speed layer, or a full and an incremental batch, disagree. No default.
# webhook = "http://127.0.0.1:9000/twofold"
"#;

const VIEWS: &str = r#"-- {name}: its streams and views. Every *.sql file in this directory is read.

-- A stream: one event is one row. Put some in with
--   echo '{"event_time": "2024-05-01T12:00:00", "user_id": "ada", "page": "/home", "duration_ms": 120}' \
--     | twofold ingest clicks --format ndjson
-- Events that do not fit are kept, and can be queried, as clicks_rejected.
CREATE STREAM clicks (
  event_time TIMESTAMP NOT NULL,
  user_id TEXT NOT NULL,
  page TEXT NOT NULL,
  duration_ms BIGINT,
  -- How late an event may come before its time counts as complete. Later ones still count.
  WATERMARK FOR event_time AS event_time - INTERVAL '10 minutes'
) WITH (partitions = 2, partition_by = 'user_id');

-- A materialized view is kept up to date, event by event, and recomputed by the batch.
CREATE MATERIALIZED VIEW clicks_by_page AS
SELECT page, count(*) AS clicks, sum(duration_ms) AS total_ms, max(event_time) AS last_click
FROM clicks
GROUP BY page;

-- A view is computed when you ask for it:
--   twofold query 'SELECT * FROM top_pages'
CREATE VIEW top_pages AS
SELECT page, clicks
FROM clicks_by_page
ORDER BY clicks DESC, page
LIMIT 10;
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AlertsConfig, Config, MemoryConfig, ServeConfig, SpeedConfig, TlsFiles};
    use crate::project::Project;

    #[test]
    fn the_template_loads_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        for (file, contents) in template("shop\nnews") {
            std::fs::write(dir.path().join(file), contents).unwrap();
        }
        let project = Project::load(dir.path()).unwrap();
        assert_eq!(project.streams["clicks"].partitions, 2);
        let views: Vec<_> = project.views.iter().map(|v| (v.name.as_str(), v.materialized)).collect();
        assert_eq!(views, [("clicks_by_page", true), ("top_pages", false)]);
    }

    #[test]
    fn every_documented_default_is_the_default() {
        let is_key = |line: &str| line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
        let uncommented: Vec<_> = CONFIG
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|l| is_key(l)).unwrap_or(line))
            .collect();
        let text = uncommented.join("\n");
        let keys = text.lines().filter(|line| is_key(line)).count();
        assert_eq!(keys, 33, "each key stands there once: {text}");
        let default = Config::default();
        let url = Some("http://127.0.0.1:8661".to_string());
        let webhook = Some("http://127.0.0.1:9000/twofold".to_string());
        let tls = |name: &str| {
            Some(TlsFiles { cert: format!("{name}.pem").into(), key: format!("{name}.key").into() })
        };
        let ca = Some("ca.pem".into());
        let speed = SpeedConfig { url, ca, tls: tls("speed"), ..default.speed };
        let serve = ServeConfig { tls: tls("serve"), ..default.serve };
        let alerts = AlertsConfig { webhook };
        let memory = MemoryConfig { limit: 4 << 30 };
        let expected = Config { speed, serve, alerts, memory, ..default };
        assert_eq!(Config::parse(&text, "template").unwrap(), expected);
    }
}
