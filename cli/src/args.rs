//! The arguments as they stand on the command line; what they mean is for the commands.

use crate::format::Output;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use twofold_common::Listening;
use twofold_speed::Format;

/// Keeps SQL views over event streams exact and fresh: folded nightly over the archive, continuously over the stream,
/// merged into one answer.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "twofold",
    version,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Errors are one line on stderr, and exit code 2. TWOFOLD_LOG=info (or debug, or a filter such as\n\
                  twofold_speed=debug) shows what is going on."
)]
pub struct Args {
    /// The project: a directory with twofold.toml and *.sql
    #[arg(short, long, global = true, value_name = "DIR", default_value = ".")]
    pub project: PathBuf,
    /// The server to ask, as https://host:8660, instead of the one that runs here [env: TWOFOLD_SERVER]
    #[arg(long, global = true, value_name = "URL", help_heading = "Asking a server")]
    pub server: Option<String>,
    /// The token to show to it; safer in the variable, since others can see arguments [env: TWOFOLD_TOKEN]
    #[arg(long, global = true, value_name = "TOKEN", help_heading = "Asking a server")]
    pub token: Option<String>,
    /// Whose certificate may vouch for it over TLS, as PEM [env: TWOFOLD_CA]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Asking a server")]
    pub ca: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Makes a new project, commented, that `up` runs as it is
    Init(InitArgs),
    /// Validates the project, and tells what each view keeps
    Check(CheckArgs),
    /// Runs everything in one process: ingest, speed, archive, batch by schedule, serving
    Up(ServeArgs),
    /// Runs the speed layer alone: ingest, folding, archiving
    Speed(SpeedArgs),
    /// Runs serving alone; it finds the speed layer by itself
    Serve(ServeArgs),
    /// Folds what is new in the archive, and publishes the batch views
    Batch(BatchArgs),
    /// Folds segments again from raw, and compares with what the speed layer had
    Audit(AuditArgs),
    /// Appends events from files or stdin
    Ingest(IngestArgs),
    /// Answers a query
    Query(QueryArgs),
    /// Shows the rows of a view, and then what changes of them
    Watch(WatchArgs),
    /// Removes files that no manifest names, and states of removed views
    Gc(GcArgs),
    /// Reads all that is stored, names what is damaged, and mends what can be made again
    Repair(RepairArgs),
    /// Shows streams, views, segments and audits
    Status(StatusArgs),
    /// Makes and revokes tokens: who may send events, read, and administer
    Token(TokenArgs),
    /// Shows all of it on real data: a year of flights, compared with a plain query to the bit
    Demo(DemoArgs),
}

/// `twofold init`
#[derive(Debug, Clone, ClapArgs)]
pub struct InitArgs {
    /// Where the project goes; created if it is not there
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// `twofold check`
#[derive(Debug, Clone, ClapArgs)]
pub struct CheckArgs {
    /// Prints each view's fold, merge and finish plans
    #[arg(long)]
    pub explain: bool,
}

/// `twofold serve` and `twofold up`
#[derive(Debug, Clone, ClapArgs)]
pub struct ServeArgs {
    /// Where to answer, instead of `listen` in [serve] of twofold.toml; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where to answer clients of PostgreSQL, instead of `pg_listen` in [serve] of twofold.toml; or off
    #[arg(long, value_name = "ADDR:PORT")]
    pub pg_listen: Option<Listening>,
    /// Listens also where others than this machine can reach it, without TLS and tokens
    #[arg(long)]
    pub insecure_listen: bool,
    /// Where to answer Arrow Flight SQL, instead of `flight_listen` in [serve] of twofold.toml; or off
    #[arg(long, value_name = "ADDR:PORT")]
    pub flight_listen: Option<Listening>,
}

/// `twofold speed`
#[derive(Debug, Clone, ClapArgs)]
pub struct SpeedArgs {
    /// Processes what is in the log, and exits
    #[arg(long)]
    pub once: bool,
    /// Listens also where others than this machine can reach it, without TLS and tokens
    #[arg(long)]
    pub insecure_listen: bool,
}

/// `twofold batch`
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct BatchArgs {
    /// Recomputes everything from raw, and compares it with the incremental result
    #[arg(long)]
    pub full: bool,
    /// Only this view
    #[arg(long, value_name = "NAME")]
    pub view: Option<String>,
}

/// `twofold audit`
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct AuditArgs {
    /// All segments, instead of a sample
    #[arg(long, conflicts_with = "sample")]
    pub all: bool,
    /// How many segments of each view a sample has [default: 16]
    #[arg(long, value_name = "N")]
    pub sample: Option<usize>,
    /// Takes the sample of an earlier audit again
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Only this view
    #[arg(long, value_name = "NAME")]
    pub view: Option<String>,
    /// Lists the keys in which states differ, with what either has: of all differences that are known
    #[arg(long)]
    pub explain: bool,
}

/// `twofold ingest`
#[derive(Debug, Clone, ClapArgs)]
pub struct IngestArgs {
    /// The stream
    #[arg(value_name = "STREAM")]
    pub stream: String,
    /// The files, in this order; `-`, or none, is stdin
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// How the events are written; guessed from the file's name, and ndjson for stdin
    #[arg(long, value_enum)]
    pub format: Option<Input>,
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Input {
    /// One JSON object to a line
    Ndjson,
    /// Comma-separated values below a header line
    Csv,
    /// Apache Parquet
    Parquet,
}

impl Input {
    /// The MIME type.
    pub fn mime(self) -> &'static str {
        match self {
            Input::Ndjson => "application/x-ndjson",
            Input::Csv => "text/csv",
            Input::Parquet => "application/vnd.apache.parquet",
        }
    }
}

impl From<Input> for Format {
    fn from(input: Input) -> Self {
        match input {
            Input::Ndjson => Format::Ndjson,
            Input::Csv => Format::Csv,
            Input::Parquet => Format::Parquet,
        }
    }
}

/// `twofold query`
#[derive(Debug, Clone, ClapArgs)]
pub struct QueryArgs {
    /// One query over streams, tables and views
    #[arg(value_name = "SQL")]
    pub sql: String,
    /// How the rows are written
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub format: Output,
    /// Prints to stderr which offsets the answer is made of
    #[arg(long)]
    pub coverage: bool,
}

/// `twofold watch`
#[derive(Debug, Clone, ClapArgs)]
pub struct WatchArgs {
    /// The view
    #[arg(value_name = "VIEW")]
    pub view: String,
    /// Only rows that this lets through: column=value, or column[gt]=value (eq, ne, lt, lte, gt, gte, null)
    #[arg(long = "where", value_name = "CONDITION", value_parser = condition)]
    pub conditions: Vec<(String, String)>,
    /// How what happens is written
    #[arg(long, value_enum, default_value_t = WatchOutput::Text)]
    pub format: WatchOutput,
    /// Ends after so many events; the rows at the beginning are the first
    #[arg(long, value_name = "N")]
    pub events: Option<u64>,
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WatchOutput {
    /// Lines for people: + what came or changed, - what went
    Text,
    /// One JSON object to a line, for each event
    Json,
}

/// `twofold gc`
#[derive(Debug, Clone, ClapArgs)]
pub struct GcArgs {
    /// Lists what would go, and removes nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Leaves alone what is younger than this, since a writer may be about to name it (10s, 5m, 1h, 1d)
    #[arg(long, value_name = "AGE", default_value = "1h", value_parser = duration)]
    pub older_than: Duration,
}

/// `twofold repair`
#[derive(Debug, Clone, ClapArgs)]
pub struct RepairArgs {
    /// Shows what is damaged, and changes nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `twofold status`
#[derive(Debug, Clone, ClapArgs)]
pub struct StatusArgs {
    /// Prints it as JSON, as GET /v1/status gives it
    #[arg(long)]
    pub json: bool,
}

/// `twofold token`
#[derive(Debug, Clone, ClapArgs)]
pub struct TokenArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// `twofold token …`
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Makes a token, and prints it once; from then on a server asks for one
    Create {
        /// What it is called; the user's name on the PostgreSQL wire
        #[arg(value_name = "NAME")]
        name: String,
        /// The streams that it may send events to; '*' for all
        #[arg(long, value_name = "STREAM", num_args = 1..)]
        ingest: Vec<String>,
        /// The views, streams and tables that it may read; '*' for all
        #[arg(long, value_name = "RELATION", num_args = 1..)]
        read: Vec<String>,
        /// Everything: also status, metrics and the speed layer's own address
        #[arg(long)]
        admin: bool,
        /// How long it is valid (10s, 5m, 1h, 30d); without it, until it is revoked
        #[arg(long, value_name = "TIME", value_parser = duration)]
        expires: Option<Duration>,
    },
    /// Lists the tokens: their names and what they may do
    List,
    /// Revokes a token
    Revoke {
        /// What it is called
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// `twofold demo`
#[derive(Debug, Clone, ClapArgs)]
pub struct DemoArgs {
    /// Leaves the server running, and prints its address, until it is interrupted
    #[arg(long)]
    pub keep: bool,
}

impl Command {
    /// The command as messages call it.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Init(_) => "twofold init",
            Command::Check(_) => "twofold check",
            Command::Up(_) => "twofold up",
            Command::Speed(_) => "twofold speed",
            Command::Serve(_) => "twofold serve",
            Command::Batch(_) => "twofold batch",
            Command::Audit(_) => "twofold audit",
            Command::Ingest(_) => "twofold ingest",
            Command::Query(_) => "twofold query",
            Command::Watch(_) => "twofold watch",
            Command::Gc(_) => "twofold gc",
            Command::Repair(_) => "twofold repair",
            Command::Status(_) => "twofold status",
            Command::Token(_) => "twofold token",
            Command::Demo(_) => "twofold demo",
        }
    }

    /// Whether the command runs until it is told to stop.
    pub fn is_server(&self) -> bool {
        matches!(self, Command::Up(_) | Command::Speed(SpeedArgs { once: false, .. }) | Command::Serve(_))
    }
}

fn condition(text: &str) -> Result<(String, String), String> {
    let (column, value) = text.split_once('=').ok_or("expected column=value")?;
    Ok((column.to_string(), value.to_string()))
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err("expected a whole number and a unit, as 10s, 5m, 1h or 1d".into()),
    };
    let number: u64 = number.parse().map_err(|_| "expected a whole number before the unit".to_string())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(|| "too long".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(words: &str) -> Args {
        Args::try_parse_from(words.split(' ')).unwrap()
    }

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_project_may_stand_before_or_after_the_command() {
        assert_eq!(parse("twofold -p x check").project, PathBuf::from("x"));
        assert_eq!(parse("twofold check --project x").project, PathBuf::from("x"));
        assert_eq!(parse("twofold check").project, PathBuf::from("."));
    }

    #[test]
    fn what_each_command_takes_is_read() {
        let Command::Ingest(ingest) = parse("twofold ingest s a.csv - --format ndjson").command else {
            panic!()
        };
        assert_eq!(
            (ingest.stream.as_str(), ingest.files.len(), ingest.format),
            ("s", 2, Some(Input::Ndjson))
        );
        let Command::Batch(batch) = parse("twofold batch --full --view a").command else { panic!() };
        assert!(batch.full && batch.view.as_deref() == Some("a"));
        let Command::Audit(audit) = parse("twofold audit --sample 3 --seed 7 --explain").command else {
            panic!()
        };
        assert_eq!((audit.all, audit.sample, audit.seed, audit.explain), (false, Some(3), Some(7), true));
        assert!(Args::try_parse_from("twofold audit --all --sample 3".split(' ')).is_err());
        let Command::Gc(gc) = parse("twofold gc --dry-run --older-than 5m").command else { panic!() };
        assert!(gc.dry_run && gc.older_than == Duration::from_secs(300));
        let Command::Up(up) = parse("twofold up --listen 127.0.0.1:0").command else { panic!() };
        assert_eq!((up.listen, up.pg_listen), (Some(SocketAddr::from(([127, 0, 0, 1], 0))), None));
        let Command::Serve(serve) = parse("twofold serve --pg-listen off").command else { panic!() };
        assert_eq!((serve.listen, serve.pg_listen), (None, Some(Listening::Off)));
        assert!(Args::try_parse_from("twofold up --pg-listen 8662".split(' ')).is_err());
        let Command::Up(up) = parse("twofold up --flight-listen off").command else { panic!() };
        assert_eq!(up.flight_listen, Some(Listening::Off));
        assert!(Args::try_parse_from("twofold serve --flight-listen on".split(' ')).is_err());
    }

    #[test]
    fn a_condition_has_a_column_and_a_value() {
        let Command::Watch(watch) = parse("twofold watch v --where a=b=c --where n[gt]=5").command else {
            panic!()
        };
        let conditions = [("a", "b=c"), ("n[gt]", "5")].map(|(c, v)| (c.to_string(), v.to_string()));
        assert_eq!((watch.view.as_str(), &watch.conditions[..]), ("v", &conditions[..]));
        assert!(Args::try_parse_from("twofold watch v --where a".split(' ')).is_err());
    }

    #[test]
    fn an_age_needs_a_unit() {
        for text in ["5", "", "h", "1w", "-1h", "99999999999999999999h", "18446744073709551615d"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn only_servers_are_servers() {
        let servers: Vec<_> = ["up", "speed", "speed --once", "serve", "batch", "demo"]
            .into_iter()
            .filter(|words| parse(&format!("twofold {words}")).command.is_server())
            .collect();
        assert_eq!(servers, ["up", "speed", "serve"]);
    }

    #[test]
    fn help_lists_every_command_on_one_line() {
        let help = Args::command().render_help().to_string();
        insta::assert_snapshot!(help, @r#"
        Keeps SQL views over event streams exact and fresh: folded nightly over the archive, continuously over the stream, merged into one answer

        Usage: twofold [OPTIONS] <COMMAND>

        Commands:
          init    Makes a new project, commented, that `up` runs as it is
          check   Validates the project, and tells what each view keeps
          up      Runs everything in one process: ingest, speed, archive, batch by schedule, serving
          speed   Runs the speed layer alone: ingest, folding, archiving
          serve   Runs serving alone; it finds the speed layer by itself
          batch   Folds what is new in the archive, and publishes the batch views
          audit   Folds segments again from raw, and compares with what the speed layer had
          ingest  Appends events from files or stdin
          query   Answers a query
          watch   Shows the rows of a view, and then what changes of them
          gc      Removes files that no manifest names, and states of removed views
          repair  Reads all that is stored, names what is damaged, and mends what can be made again
          status  Shows streams, views, segments and audits
          token   Makes and revokes tokens: who may send events, read, and administer
          demo    Shows all of it on real data: a year of flights, compared with a plain query to the bit

        Options:
          -p, --project <DIR>  The project: a directory with twofold.toml and *.sql [default: .]
          -h, --help           Print help
          -V, --version        Print version

        Asking a server:
              --server <URL>   The server to ask, as https://host:8660, instead of the one that runs here [env: TWOFOLD_SERVER]
              --token <TOKEN>  The token to show to it; safer in the variable, since others can see arguments [env: TWOFOLD_TOKEN]
              --ca <FILE>      Whose certificate may vouch for it over TLS, as PEM [env: TWOFOLD_CA]

        Errors are one line on stderr, and exit code 2. TWOFOLD_LOG=info (or debug, or a filter such as
        twofold_speed=debug) shows what is going on.
        "#);
    }
}
