//! `twofold gc`: removes what nothing names any more. Dropping is garbage collection: it changes no answer.
//!
//! Views that a running speed layer maintains are live, even if the project has changed since it was started; and so are
//! those of the project before, while this one is not built.

use crate::args::GcArgs;
use crate::clock;
use crate::node::{FoundSpeed, Site, SpeedNode};
use crate::text::{bytes, columns, counted, print};
use anyhow::Result;
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::UNIX_EPOCH;
use twofold_common::{Functions, Gc, Orphan, SpeedLayer};

pub(crate) async fn run(dir: &Path, functions: &Functions, args: &GcArgs, command: &str) -> Result<()> {
    let site = Site::load(dir, functions).await?;
    let stores = site.stores().await?;
    let speed = FoundSpeed::of(&site);
    let mut live: BTreeSet<(String, String)> =
        site.catalog.views().values().map(|v| (v.name().to_string(), v.fingerprint().to_string())).collect();
    let running = speed.is_running().await;
    if running {
        let views = speed.status().await?.views;
        live.extend(views.into_iter().map(|v| (v.view, v.fingerprint.to_string())));
    }
    // What is built by now is settled, so that what went before it may go.
    let node = match site.data_dir().join("state.redb").exists() && !running {
        true => Some(SpeedNode::open(&site, &stores, command).await?),
        false => None,
    };
    let versions = match &node {
        Some(node) => node.engine().versions(),
        None => site.versions(&stores).await,
    };
    let carried = versions.carried();
    live.extend(carried.iter().map(|v| (v.name().to_string(), v.fingerprint().to_string())));

    let gc = Gc::new(stores.store.clone());
    let orphans = gc.orphans(&live, cutoff(args)).await?;
    print(list(&orphans))?;
    let size = bytes(orphans.iter().map(|orphan| orphan.bytes).sum());
    let files = counted(orphans.len() as u64, "file");
    if args.dry_run {
        print(format!("{files}, {size}, would go\n"))?;
    } else {
        let deleted = gc.delete(&orphans).await?.len() as u64;
        print(format!("removed {}, {size}\n", counted(deleted, "file")))?;
    }
    let removed = if running {
        speed.gc(args.dry_run).await?
    } else if let Some(node) = node {
        node.layer().gc(args.dry_run).await?
    } else {
        return Ok(());
    };
    let removed = counted(removed.len() as u64, "removed view");
    print(if args.dry_run {
        format!("speed states of {removed} would go\n")
    } else {
        format!("dropped the speed states of {removed}\n")
    })
}

fn cutoff(args: &GcArgs) -> DateTime<Utc> {
    let at = clock::now().checked_sub(args.older_than).unwrap_or(UNIX_EPOCH);
    DateTime::<Utc>::from(at)
}

fn list(orphans: &[Orphan]) -> String {
    if orphans.is_empty() {
        return String::new();
    }
    let rows: Vec<_> =
        orphans.iter().map(|o| vec![bytes(o.bytes), o.path.clone(), o.why.to_string()]).collect();
    columns(&[">size", "file", "why"], &rows)
}
