//! `twofold repair`: reads all that is stored, names what is damaged, and mends what can be made again.

use super::batch;
use crate::args::{BatchArgs, RepairArgs};
use crate::node::{Site, open_log};
use crate::outcome::Outcome;
use crate::text::{columns, counted, print};
use anyhow::Result;
use std::path::Path;
use std::sync::Arc;
use twofold_batch::{Remedy, Repair};
use twofold_common::Functions;

pub(crate) async fn run(
    dir: &Path,
    functions: &Functions,
    args: &RepairArgs,
    command: &str,
) -> Result<Outcome> {
    let site = Site::load(dir, functions).await?;
    let stores = site.stores().await?;
    let (lock, log) = open_log(&site, &stores, command).await?;
    let repair = Repair {
        catalog: Arc::clone(&site.catalog),
        log,
        archive: stores.archive.clone(),
        batch_views: stores.batch_views.clone(),
    };
    let found = repair.find().await?;
    if found.is_empty() {
        print("nothing is damaged\n")?;
        return Ok(Outcome::Done);
    }
    let rows: Vec<_> =
        found.iter().map(|d| vec![d.to_string(), d.reason.clone(), d.remedy.to_string()]).collect();
    print(columns(&["what", "damage", "remedy"], &rows))?;
    if !args.dry_run {
        repair.mend(&found).await?;
    }
    drop((repair, lock));
    let folds_again = found.iter().any(|damage| damage.remedy == Remedy::NextBatch);
    let lost = found.iter().filter(|damage| damage.remedy == Remedy::Backup).count() as u64;
    if args.dry_run {
        print(format!("{} found, nothing changed\n", counted(found.len() as u64, "damage")))?;
    } else {
        if folds_again {
            batch::run(dir, functions, &BatchArgs::default(), command).await?;
        }
        let mended = found.len() as u64 - lost;
        print(format!("{mended} mended; what was damaged is in quarantine/ of the store\n"))?;
    }
    Ok(if lost > 0 || args.dry_run { Outcome::Different } else { Outcome::Done })
}
