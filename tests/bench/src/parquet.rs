//! The engine alone over the archive's files: what a full batch run is measured against.

use crate::measure::{Cost, start};
use crate::project::{STREAM, TUMBLING, USERS, catalog, plain, with_campaigns};
use crate::report::Report;
use anyhow::Result;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use std::path::Path;

pub(crate) async fn measure(report: &mut Report, archive: &Path) -> Result<()> {
    report.part("parquet", "the engine alone, by the views' queries over the archive's files, on all cores");
    let dir = tempfile::tempdir()?;
    catalog(dir.path(), &[] as &[(&str, &str)]).await?;
    let context = SessionContext::new();
    with_campaigns(&context, dir.path()).await?;
    let files = archive.to_string_lossy();
    context.register_parquet(STREAM, files.as_ref(), ParquetReadOptions::default()).await?;
    let events = context.table(STREAM).await?.count().await?;
    for (name, query) in [TUMBLING, USERS] {
        let mut costs: Vec<Cost> = Vec::new();
        for run in 0..=report.runs() {
            let started = start();
            context.sql(&plain(query)).await?.collect().await?;
            if run > 0 {
                costs.push(started.cost());
            }
        }
        report.figure(name, events as f64, "events", &costs);
    }
    Ok(())
}
