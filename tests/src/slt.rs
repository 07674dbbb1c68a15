//! The SQL files of `tests/slt`, answered by the whole platform in one process.
//!
//! Each file declares a project, inserts events and asks queries. It is run once for each [`Layers`]: with
//! all events in the speed layer, all in the batch layer, and some in each; every answer must be the one that
//! the file expects. The statements are those of a project, and two more:
//!
//! - `INSERT INTO stream VALUES …` takes events in, as NDJSON, through the door that producers use;
//! - queries, as users send them.
//!
//! Tables find their files beside the `.slt` files. What a file needs that is not there yet waits as
//! `.slt.todo`.

use crate::parity::{Platform, Sizes, Step};
use arrow::datatypes::DataType;
use arrow::json::LineDelimitedWriter;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner, strict_column_validator};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;
use twofold_common::{Catalog, Error, IngestRequest, Project};

/// Where the events of a file are when its queries are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layers {
    Speed,
    Batch,
    /// What every second `INSERT` brings stays in the speed layer.
    Both,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_files_are_answered_alike_by_both_layers() {
    let files = files(&directory());
    assert!(!files.is_empty());
    let mut failures = Vec::new();
    for file in &files {
        for layers in [Layers::Speed, Layers::Batch, Layers::Both] {
            if let Err(failure) = run(file, layers).await {
                failures.push(format!("{}, events in {layers:?}: {failure}", file.display()));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("slt")
}

/// The `.slt` files in a directory and those below, by name.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "slt") {
            found.push(path);
        }
    }
    found.sort();
    found
}

async fn run(file: &Path, layers: Layers) -> Result<(), String> {
    let mixed = Arc::new(AtomicUsize::new(0));
    let mut runner = Runner::new(|| {
        let mixed = mixed.clone();
        async move { Ok(Database::new(layers, mixed)) }
    });
    runner.with_column_validator(strict_column_validator);
    runner.run_file_async(file).await.map_err(|e| e.to_string())?;
    let text = std::fs::read_to_string(file).unwrap();
    let queries = text.lines().any(|line| line.starts_with("query") && !line.starts_with("query error"));
    if layers == Layers::Both && queries && mixed.load(Ordering::SeqCst) == 0 {
        return Err("no query read from both layers: INSERT twice before a query".into());
    }
    Ok(())
}

/// A project under test: declared statement by statement, and running from the first event or query on.
struct Database {
    layers: Layers,
    statements: String,
    platform: Option<Platform>,
    inserts: usize,
    /// How many answers came from both layers.
    mixed: Arc<AtomicUsize>,
}

impl Database {
    fn new(layers: Layers, mixed: Arc<AtomicUsize>) -> Self {
        Self { layers, statements: String::new(), platform: None, inserts: 0, mixed }
    }

    async fn declare(&mut self, statement: &str) -> Result<(), Error> {
        assert!(self.platform.is_none(), "declare all before the first INSERT or query: {statement}");
        let statements = format!("{}{statement};\n", self.statements);
        load(&statements).await?;
        self.statements = statements;
        Ok(())
    }

    async fn platform(&mut self) -> Result<&mut Platform, Error> {
        if self.platform.is_none() {
            let (dir, project, catalog) = load(&self.statements).await?;
            self.platform = Some(
                Platform::of((dir, project, Arc::new(catalog)), Sizes { epoch_rows: 5, segment_rows: 3 })
                    .await,
            );
        }
        Ok(self.platform.as_mut().unwrap())
    }

    async fn insert(&mut self, statement: &str) -> Result<u64, Error> {
        let (layers, nth) = (self.layers, self.inserts);
        self.inserts += 1;
        let platform = self.platform().await?;
        let mut taken = 0;
        for (stream, body) in bodies(&platform.project, statement).await? {
            let request = IngestRequest::new(stream, "application/x-ndjson", body);
            let receipt = platform.serving().ingest(request).await?;
            assert_eq!(receipt.rejected, 0, "{statement}: {:?}", receipt.reasons);
            taken += receipt.accepted;
        }
        platform.take(&Step::Epochs).await;
        if layers == Layers::Batch || layers == Layers::Both && nth.is_multiple_of(2) {
            let full = nth.is_multiple_of(4);
            for step in [Step::Seal, Step::Archive, Step::Batch { full }, Step::Retire] {
                platform.take(&step).await;
            }
        }
        Ok(taken)
    }

    async fn query(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Error> {
        let layers = self.layers;
        let rows = self.platform().await?.serving().query(sql).await?;
        let batch = rows.coverage.iter().any(|c| c.batch.start != c.batch.end);
        let speed = rows.coverage.iter().any(|c| c.speed.start != c.speed.end);
        assert!(!(layers == Layers::Speed && batch || layers == Layers::Batch && speed), "{layers:?}: {sql}");
        self.mixed.fetch_add(usize::from(batch && speed), Ordering::SeqCst);

        let types = rows.schema.fields().iter().map(|field| column_type(field.data_type())).collect();
        let options = FormatOptions::new().with_null("NULL");
        let mut texts = Vec::new();
        for batch in &rows.batches {
            let columns = batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            let cell = |text: String| if text.is_empty() { "(empty)".into() } else { text };
            let row = |row| columns.iter().map(|column| cell(column.value(row).to_string())).collect();
            texts.extend((0..batch.num_rows()).map(row));
        }
        Ok(DBOutput::Rows { types, rows: texts })
    }
}

#[async_trait::async_trait]
impl AsyncDB for Database {
    type Error = Error;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Error> {
        match sql.split_whitespace().next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "CREATE" => self.declare(sql).await.map(|()| DBOutput::StatementComplete(0)),
            "INSERT" => self.insert(sql).await.map(DBOutput::StatementComplete),
            _ => self.query(sql).await,
        }
    }

    async fn shutdown(&mut self) {}
}

/// A project of these statements, with the files that lie beside the `.slt` files.
async fn load(statements: &str) -> Result<(TempDir, Project, Catalog), Error> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("twofold.toml"), "").unwrap();
    std::fs::write(dir.path().join("views.sql"), statements).unwrap();
    for entry in std::fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "csv") {
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let project = Project::load(dir.path())?;
    let catalog = Catalog::new(&project).await?;
    Ok((dir, project, catalog))
}

/// What an `INSERT` brings, by stream, as NDJSON.
async fn bodies(project: &Project, statement: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut config = SessionConfig::new().with_target_partitions(1);
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    let session = SessionContext::new_with_config(config);
    for stream in project.streams.values() {
        let table = MemTable::try_new(stream.schema.clone(), vec![vec![]])?;
        session.register_table(stream.name.as_str(), Arc::new(table))?;
    }
    session.sql(statement).await?.collect().await?;
    let mut bodies = Vec::new();
    for stream in project.streams.keys() {
        let rows = session.table(stream.as_str()).await?.collect().await?;
        let mut writer = LineDelimitedWriter::new(Vec::new());
        writer.write_batches(&rows.iter().collect::<Vec<_>>())?;
        writer.finish()?;
        let body = writer.into_inner();
        if !body.is_empty() {
            bodies.push((stream.clone(), body));
        }
    }
    Ok(bodies)
}

fn column_type(data_type: &DataType) -> DefaultColumnType {
    match data_type {
        DataType::Utf8 => DefaultColumnType::Text,
        t if t.is_integer() => DefaultColumnType::Integer,
        t if t.is_floating() || matches!(t, DataType::Decimal128(_, _)) => DefaultColumnType::FloatingPoint,
        _ => DefaultColumnType::Any,
    }
}
