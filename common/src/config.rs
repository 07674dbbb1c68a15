//! The configuration of a project: `twofold.toml`.
//!
//! Every key has a default, so an empty file is a whole configuration; a key that nobody knows is an error that
//! names the nearest known one. Parsing takes text and gives values: only [`Config::load`] reads a file, and
//! nothing here opens a store or a socket, so an address that parses may still be in use.
//!
//! Every error is one line: file, line, key, what was expected and what was found.

pub(crate) mod duration;
mod limits;
mod listening;
mod reader;
mod schedule;
mod tls;

pub use limits::LimitsConfig;
pub use listening::Listening;
pub use schedule::Schedule;
pub use tls::TlsFiles;

use crate::error::{Error, Result};
use crate::ingest::REMEMBER_KEYS;
use crate::memory;
use reader::{Document, Section};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;

/// The name of the configuration file, whose presence makes a directory a project.
pub const CONFIG_FILE: &str = "twofold.toml";

const TOP: &[&str] = &[
    "data", "store", "archive", "ingest", "speed", "serve", "batch", "tables", "memory", "limits", "alerts",
];
const ARCHIVE: &[&str] = &["segment_rows", "segment_age"];
const INGEST: &[&str] = &["remember_keys", "waiting", "waiting_requests", "body_timeout"];
const SPEED: &[&str] =
    &["listen", "tls_cert", "tls_key", "url", "ca", "epoch_rows", "epoch_interval", "retire_grace"];
const SERVE: &[&str] = &["listen", "pg_listen", "flight_listen", "tls_cert", "tls_key", "allow_origins"];
const BATCH: &[&str] = &["schedule"];
const TABLES: &[&str] = &["reload"];
/// What is expected where bytes are told.
const A_SIZE: &str = "a size, as \"4 GiB\" or \"512 MB\"";
const MEMORY: &[&str] = &["limit"];
const ALERTS: &[&str] = &["webhook"];

/// What `twofold.toml` says, with the defaults where it says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `data`: the directory of the log and the states. Default `data` in the project.
    pub data: PathBuf,
    /// `store`: where archive and batch views live. Default `store` in the data directory.
    pub store: StoreLocation,
    /// `[archive]`
    pub archive: ArchiveConfig,
    /// `[ingest]`
    pub ingest: IngestConfig,
    /// `[speed]`
    pub speed: SpeedConfig,
    /// `[serve]`
    pub serve: ServeConfig,
    /// `[batch]`
    pub batch: BatchConfig,
    /// `[tables]`
    pub tables: TablesConfig,
    /// `[memory]`
    pub memory: MemoryConfig,
    /// `[limits]`
    pub limits: LimitsConfig,
    /// `[alerts]`
    pub alerts: AlertsConfig,
}

/// Where archive and batch views live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLocation {
    /// A directory.
    Path(PathBuf),
    /// An object store, or a directory as `file:///…`.
    Url(Url),
}

/// `[archive]`: when a segment is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveConfig {
    /// `segment_rows`: after this many events, at least 1. Default 1,000,000.
    pub segment_rows: u64,
    /// `segment_age`: or this long after its first event. Default 10 minutes.
    pub segment_age: Duration,
}

/// `[ingest]`: how events come in over HTTP, and how long their requests are remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestConfig {
    /// `remember_keys`: how long the key of a request is remembered, so that a repetition adds nothing. Default 1 day.
    pub remember_keys: Duration,
    /// `waiting`: how many bytes of bodies are held in memory at once, at each address. Default 256 MiB.
    pub waiting: u64,
    /// `waiting_requests`: how many requests wait at once until they are durable; at least 1. Default 1024.
    pub waiting_requests: u32,
    /// `body_timeout`: how long a client may send nothing in the middle of a body. Default 30 s.
    pub body_timeout: Duration,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            remember_keys: REMEMBER_KEYS,
            waiting: 256 << 20,
            waiting_requests: 1024,
            body_timeout: Duration::from_secs(30),
        }
    }
}

/// `[speed]`: the speed layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpeedConfig {
    /// `listen`: where the speed layer answers other processes. Default 127.0.0.1:8661.
    pub listen: SocketAddr,
    /// `tls_cert`, `tls_key`: how it speaks TLS there. Default: it does not.
    pub tls: Option<TlsFiles>,
    /// `url`: where other processes find the speed layer (`http` or `https`, without a final `/`), if that is not
    /// what `listen` says.
    pub url: Option<String>,
    /// `ca`: the certificates, as PEM, of the authorities that may vouch for an `https` address in `url`.
    pub ca: Option<PathBuf>,
    /// `epoch_rows`: how many events an epoch holds at most, at least 1. Default 65,536.
    pub epoch_rows: usize,
    /// `epoch_interval`: how long to wait for more events before an epoch that is not full, unless an answer waits for
    /// them. Default 5 ms.
    pub epoch_interval: Duration,
    /// `retire_grace`: how long states stay after a batch view covers them; may be zero. Default 1 minute.
    pub retire_grace: Duration,
}

/// `[serve]`: the serving layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeConfig {
    /// `listen`: where users ask. Default 127.0.0.1:8660.
    pub listen: SocketAddr,
    /// `pg_listen`: where clients of PostgreSQL ask. Default 127.0.0.1:8662.
    pub pg_listen: Listening,
    /// `flight_listen`: where clients of Arrow Flight SQL ask. Default 127.0.0.1:8663.
    pub flight_listen: Listening,
    /// `tls_cert`, `tls_key`: how it speaks TLS, at all of its addresses. Default: it does not.
    pub tls: Option<TlsFiles>,
    /// `allow_origins`: the sites, as `https://app.example.com`, whose pages may ask from a browser. Default none.
    pub allow_origins: Vec<String>,
}

/// `[batch]`: the batch layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchConfig {
    /// `schedule`: when `twofold up` runs a batch. Default every hour.
    pub schedule: Schedule,
}

/// `[tables]`: the files of tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablesConfig {
    /// `reload`: how often servers look whether a table's file has changed; zero: never. Default 10 seconds.
    pub reload: Duration,
}

/// `[memory]`: what the operators of plans may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryConfig {
    /// `limit`: bytes that queries, folds, merges and batch runs of one process may take together before they go to
    /// disk. Default: half of the machine's memory.
    pub limit: u64,
}

/// `[alerts]`: who is told when batch and speed layer disagree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertsConfig {
    /// `webhook`: an address (`http`) to which a JSON document is posted. Default none.
    pub webhook: Option<String>,
}

/// An empty `twofold.toml`: paths relative to the project directory.
impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("data"),
            store: StoreLocation::Path(PathBuf::from("data/store")),
            archive: ArchiveConfig { segment_rows: 1_000_000, segment_age: Duration::from_secs(600) },
            ingest: IngestConfig::default(),
            speed: SpeedConfig {
                listen: SocketAddr::from(([127, 0, 0, 1], 8661)),
                tls: None,
                url: None,
                ca: None,
                epoch_rows: 65_536,
                epoch_interval: Duration::from_millis(5),
                retire_grace: Duration::from_secs(60),
            },
            serve: ServeConfig {
                listen: SocketAddr::from(([127, 0, 0, 1], 8660)),
                pg_listen: Listening::At(SocketAddr::from(([127, 0, 0, 1], 8662))),
                flight_listen: Listening::At(SocketAddr::from(([127, 0, 0, 1], 8663))),
                tls: None,
                allow_origins: Vec::new(),
            },
            batch: BatchConfig { schedule: Schedule::Every(Duration::from_secs(3600)) },
            tables: TablesConfig { reload: Duration::from_secs(10) },
            memory: MemoryConfig { limit: memory::half_of_machine() },
            limits: LimitsConfig::default(),
            alerts: AlertsConfig::default(),
        }
    }
}

impl Config {
    /// The configuration of the project in `dir`, its paths made absolute.
    ///
    /// # Errors
    /// `NotFound` if `dir` holds no `twofold.toml`; `Invalid` if the file cannot be read as one.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(CONFIG_FILE);
        let bytes = std::fs::read(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => no_project(dir),
            _ => Error::io(&path, e),
        })?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::Invalid(format!("{}: is not UTF-8 text", path.display())))?;
        Self::parse(&text, &path.display().to_string())?.resolve(dir)
    }

    /// The configuration that `text` says, its paths as they are written; errors call the text `file`.
    ///
    /// # Errors
    /// `Invalid`, in one line.
    pub fn parse(text: &str, file: &str) -> Result<Self> {
        let default = Self::default();
        let document = Document::parse(text, file)?;
        let sections = [
            ("archive", ARCHIVE),
            ("ingest", INGEST),
            ("speed", SPEED),
            ("serve", SERVE),
            ("batch", BATCH),
            ("tables", TABLES),
            ("memory", MEMORY),
            ("limits", limits::KEYS),
            ("alerts", ALERTS),
        ];
        let top = document.top(TOP, &sections)?;
        let data = top.path("data")?.unwrap_or(default.data);
        let store = store(&top)?.unwrap_or_else(|| StoreLocation::Path(data.join("store")));
        let config = Self {
            data,
            store,
            archive: archive(&top.section("archive", ARCHIVE)?, default.archive)?,
            ingest: ingest(&top.section("ingest", INGEST)?, default.ingest)?,
            speed: speed(&top.section("speed", SPEED)?, default.speed)?,
            serve: serve(&top.section("serve", SERVE)?, default.serve)?,
            batch: batch(&top.section("batch", BATCH)?, default.batch)?,
            tables: tables(&top.section("tables", TABLES)?, default.tables)?,
            memory: memory(&top.section("memory", MEMORY)?, default.memory)?,
            limits: limits::read(&top.section("limits", limits::KEYS)?, default.limits)?,
            alerts: alerts(&top.section("alerts", ALERTS)?)?,
        };
        config.check(file)?;
        Ok(config)
    }

    fn check(&self, file: &str) -> Result<()> {
        let mut addresses =
            vec![("`listen` in [speed]", self.speed.listen), ("`listen` in [serve]", self.serve.listen)];
        let beside = [
            ("`pg_listen` in [serve]", self.serve.pg_listen),
            ("`flight_listen` in [serve]", self.serve.flight_listen),
        ];
        for (name, listening) in beside {
            if let Listening::At(address) = listening {
                addresses.push((name, address));
            }
        }
        for (i, (one, address)) in
            addresses.iter().enumerate().filter(|(_, (_, address))| address.port() != 0)
        {
            if let Some((other, _)) = addresses[..i].iter().find(|(_, known)| known == address) {
                return Err(Error::Invalid(format!(
                    "{file}: {other} and {one} are both {address}; give each its own port"
                )));
            }
        }
        Ok(())
    }

    fn resolve(mut self, dir: &Path) -> Result<Self> {
        self.data = absolute(dir, &self.data)?;
        if let StoreLocation::Path(path) = &mut self.store {
            *path = absolute(dir, path)?;
        }
        tls::resolve(&mut self.serve.tls, dir)?;
        tls::resolve(&mut self.speed.tls, dir)?;
        if let Some(ca) = &mut self.speed.ca {
            *ca = absolute(dir, ca)?;
        }
        Ok(self)
    }
}

impl std::fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoreLocation::Path(path) => path.display().fmt(f),
            StoreLocation::Url(url) => url.fmt(f),
        }
    }
}

/// `path` as seen from `dir`, made absolute without asking whether it exists.
pub(crate) fn absolute(dir: &Path, path: &Path) -> Result<PathBuf> {
    let joined = dir.join(path);
    std::path::absolute(&joined).map_err(|e| Error::io(&joined, e))
}

fn no_project(dir: &Path) -> Error {
    let dir = dir.display();
    Error::NotFound(format!("no {CONFIG_FILE} in {dir}: run `twofold init {dir}`, or name a project with -p"))
}

fn store(top: &Section<'_>) -> Result<Option<StoreLocation>> {
    top.text("store", "a directory or a URL, as \"file:///srv/store\"", |text| {
        if text.contains("://") {
            Url::parse(text).ok().map(StoreLocation::Url)
        } else {
            (!text.is_empty()).then(|| StoreLocation::Path(PathBuf::from(text)))
        }
    })
}

fn archive(section: &Section<'_>, default: ArchiveConfig) -> Result<ArchiveConfig> {
    Ok(ArchiveConfig {
        segment_rows: section.count("segment_rows")?.unwrap_or(default.segment_rows),
        segment_age: section.duration("segment_age")?.unwrap_or(default.segment_age),
    })
}

fn ingest(section: &Section<'_>, default: IngestConfig) -> Result<IngestConfig> {
    Ok(IngestConfig {
        remember_keys: section.duration("remember_keys")?.unwrap_or(default.remember_keys),
        waiting: section.text("waiting", A_SIZE, memory::parse)?.unwrap_or(default.waiting),
        waiting_requests: section.count("waiting_requests")?.unwrap_or(default.waiting_requests),
        body_timeout: section.duration("body_timeout")?.unwrap_or(default.body_timeout),
    })
}

fn speed(section: &Section<'_>, default: SpeedConfig) -> Result<SpeedConfig> {
    Ok(SpeedConfig {
        listen: section.address("listen")?.unwrap_or(default.listen),
        tls: tls::read(section)?,
        url: section
            .text("url", "a URL, as \"http://127.0.0.1:8661\"", |text| web_url(text, &["http", "https"]))?,
        ca: section.file("ca")?,
        epoch_rows: section.count("epoch_rows")?.unwrap_or(default.epoch_rows),
        epoch_interval: section.duration("epoch_interval")?.unwrap_or(default.epoch_interval),
        retire_grace: section.duration_or_zero("retire_grace")?.unwrap_or(default.retire_grace),
    })
}

fn serve(section: &Section<'_>, default: ServeConfig) -> Result<ServeConfig> {
    let listening = |key| section.text(key, Listening::EXPECTED, |text| text.parse().ok());
    Ok(ServeConfig {
        listen: section.address("listen")?.unwrap_or(default.listen),
        pg_listen: listening("pg_listen")?.unwrap_or(default.pg_listen),
        flight_listen: listening("flight_listen")?.unwrap_or(default.flight_listen),
        tls: tls::read(section)?,
        allow_origins: section.texts(
            "allow_origins",
            "a list of sites, as [\"https://app.example.com\"]",
            origin,
        )?,
    })
}

fn batch(section: &Section<'_>, default: BatchConfig) -> Result<BatchConfig> {
    let expected = "\"every 1h\", \"daily 02:00\" (UTC) or \"off\"";
    Ok(BatchConfig {
        schedule: section.text("schedule", expected, Schedule::parse)?.unwrap_or(default.schedule),
    })
}

fn tables(section: &Section<'_>, default: TablesConfig) -> Result<TablesConfig> {
    Ok(TablesConfig { reload: section.duration_or_zero("reload")?.unwrap_or(default.reload) })
}

fn memory(section: &Section<'_>, default: MemoryConfig) -> Result<MemoryConfig> {
    let limit = section.text("limit", A_SIZE, memory::parse)?;
    Ok(MemoryConfig { limit: limit.unwrap_or(default.limit) })
}

fn alerts(section: &Section<'_>) -> Result<AlertsConfig> {
    let expected = "a URL, as \"http://127.0.0.1:9000/hook\"";
    let url = |text: &str| web_url(text, &["http"]).map(|_| text.to_string());
    Ok(AlertsConfig { webhook: section.text("webhook", expected, url)? })
}

fn web_url(text: &str, schemes: &[&str]) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let web = schemes.contains(&url.scheme()) && url.has_host();
    web.then(|| text.trim_end_matches('/').to_string())
}

/// An origin as browsers write it: scheme, host and, if it is not the usual one, port.
fn origin(text: &str) -> Option<String> {
    let origin = Url::parse(text).ok()?.origin();
    let whole = text.trim_end_matches('/');
    (origin.is_tuple() && origin.ascii_serialization() == whole).then(|| whole.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Config {
        Config::parse(text, "twofold.toml").unwrap()
    }

    fn error(text: &str) -> String {
        Config::parse(text, "twofold.toml").unwrap_err().to_string()
    }

    #[test]
    fn an_empty_file_is_all_defaults() {
        assert_eq!(parse(""), Config::default());
    }

    #[test]
    fn every_key_is_read() {
        let config = parse(
            "data = 'd'\nstore = 's3://bucket/x'\n\
             [archive]\nsegment_rows = 1_0\nsegment_age = '2h'\n\
             [ingest]\nremember_keys = '2d'\nwaiting = '5 MiB'\nwaiting_requests = 6\nbody_timeout = '8s'\n\
             [speed]\nlisten = '0.0.0.0:1'\nurl = 'http://speed:1/'\nepoch_rows = 3\nepoch_interval = '7ms'\n\
             retire_grace = '0s'\nca = 'ca.pem'\n[serve]\nlisten = '[::1]:2'\npg_listen = 'off'\nflight_listen = 'off'\n\
             tls_cert = 'c'\ntls_key = '/k'\n\
             allow_origins = ['https://a.example', 'http://b:1']\n[batch]\nschedule = 'off'\n\
             [tables]\nreload = '0s'\n[memory]\nlimit = '3 MiB'\n\
             [limits]\nquery_timeout = '1s'\nquery_memory = '2 MiB'\nmax_rows = 3\nqueries = 4\nqueries_waiting = 5\n\
             token_queries = 6\ntoken_memory = '7 MiB'\n[alerts]\nwebhook = 'http://h/x/?k=v'",
        );
        let expected = Config {
            data: "d".into(),
            store: StoreLocation::Url(Url::parse("s3://bucket/x").unwrap()),
            archive: ArchiveConfig { segment_rows: 10, segment_age: Duration::from_secs(7200) },
            ingest: IngestConfig {
                remember_keys: Duration::from_secs(2 * 86_400),
                waiting: 5 << 20,
                waiting_requests: 6,
                body_timeout: Duration::from_secs(8),
            },
            speed: SpeedConfig {
                listen: "0.0.0.0:1".parse().unwrap(),
                tls: None,
                url: Some("http://speed:1".into()),
                ca: Some("ca.pem".into()),
                epoch_rows: 3,
                epoch_interval: Duration::from_millis(7),
                retire_grace: Duration::ZERO,
            },
            serve: ServeConfig {
                listen: "[::1]:2".parse().unwrap(),
                pg_listen: Listening::Off,
                flight_listen: Listening::Off,
                tls: Some(TlsFiles { cert: "c".into(), key: "/k".into() }),
                allow_origins: vec!["https://a.example".into(), "http://b:1".into()],
            },
            batch: BatchConfig { schedule: Schedule::Off },
            tables: TablesConfig { reload: Duration::ZERO },
            memory: MemoryConfig { limit: 3 << 20 },
            limits: LimitsConfig {
                query_timeout: Duration::from_secs(1),
                query_memory: 2 << 20,
                max_rows: 3,
                queries: 4,
                queries_waiting: 5,
                token_queries: 6,
                token_memory: 7 << 20,
            },
            alerts: AlertsConfig { webhook: Some("http://h/x/?k=v".into()) },
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn the_store_follows_the_data_directory() {
        assert_eq!(parse("data = 'elsewhere'").store, StoreLocation::Path("elsewhere/store".into()));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
        assert_eq!(
            error("\n[archive]\nsegment_row = 5"),
            "twofold.toml:3: unknown key `segment_row` in [archive]; did you mean `segment_rows`?"
        );
        assert_eq!(error("dat = 'x'"), "twofold.toml:1: unknown key `dat`; did you mean `data`?");
        assert_eq!(error("[archiv]"), "twofold.toml:1: unknown key `archiv`; did you mean `archive`?");
    }

    #[test]
    fn a_known_key_in_the_wrong_section_is_told_where_it_belongs() {
        assert_eq!(
            error("segment_rows = 1"),
            "twofold.toml:1: unknown key `segment_rows`; it belongs in [archive]"
        );
        assert_eq!(
            error("[serve]\ndata = 'x'"),
            "twofold.toml:2: unknown key `data` in [serve]; it belongs at the top, before the sections"
        );
    }

    #[test]
    fn a_bad_value_is_told_what_was_expected_and_found() {
        let zero =
            "twofold.toml:2: `segment_rows` in [archive]: expected a whole number of at least 1, found 0";
        assert_eq!(error("[archive]\nsegment_rows = 0"), zero);
        assert!(error("[archive]\nsegment_rows = '5'").ends_with("found '5'"));
        assert!(error("[archive]\nsegment_age = '10 parsecs'").contains("expected a duration above zero"));
        assert!(error("[archive]\nsegment_age = '0s'").contains("expected a duration above zero"));
        assert!(error("[speed]\nlisten = 'localhost'").contains("expected an IP address and a port"));
        assert!(error("[serve]\nflight_listen = 'on'").contains("a port, as \"127.0.0.1:8663\", or \"off\""));
        assert!(error("[speed]\nurl = 'ftp://x'").contains("expected a URL"));
        assert!(error("[alerts]\nwebhook = 'https://x'").contains("expected a URL"));
        assert!(error("[batch]\nschedule = 'hourly'").contains("expected \"every 1h\""));
        assert!(error("archive = 5").contains("expected a section"));
        assert!(error("data = ''").contains("expected a directory"));
    }

    #[test]
    fn two_layers_on_one_address_are_refused() {
        assert!(error("[speed]\nlisten = '127.0.0.1:8660'").contains("are both 127.0.0.1:8660"));
        assert!(error("[serve]\npg_listen = '127.0.0.1:8661'").contains("`pg_listen` in [serve] are both"));
        assert!(
            error("[serve]\nflight_listen = '127.0.0.1:8662'")
                .contains("`flight_listen` in [serve] are both")
        );
        assert!(Config::parse("[serve]\npg_listen = 'off'\nflight_listen = 'off'", "x").is_ok());
        assert!(error("[serve]\npg_listen = 'none'").contains("or \"off\", found 'none'"));
    }

    #[test]
    fn broken_toml_is_one_line_with_its_place() {
        let message = error("data = 'd'\nstore = = 'x'");
        assert!(message.starts_with("twofold.toml:2: "), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }

    #[test]
    fn a_directory_without_the_file_is_no_project() {
        let dir = tempfile::tempdir().unwrap();
        let message = Config::load(dir.path()).unwrap_err().to_string();
        let shown = dir.path().display();
        let expected =
            format!("no twofold.toml in {shown}: run `twofold init {shown}`, or name a project with -p");
        assert_eq!(message, expected);
    }

    #[test]
    fn paths_are_made_absolute_from_the_project() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG_FILE), "store = '/srv/store'").unwrap();
        let config = Config::load(dir.path()).unwrap();
        assert_eq!(config.data, dir.path().join("data"));
        assert_eq!(config.store, StoreLocation::Path("/srv/store".into()));
    }
}
