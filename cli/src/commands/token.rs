//! `twofold token`: making, listing and revoking tokens. Running servers follow within seconds.
//!
//! A token is printed once, on stdout and alone, so that it can be put into a file or a variable; all else is said on
//! stderr. The list is in the store, below a directory that only its owner may read.

use crate::args::{TokenArgs, TokenCommand};
use crate::clock;
use crate::node::Site;
use crate::text::{columns, counted, print};
use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use twofold_common::token::ALL;
use twofold_common::{
    AUDIT, Functions, LATE_EVENTS, Scopes, StoreLocation, TOKENS, Token, TokenRecord, Tokens, rfc3339,
};

pub(crate) async fn run(dir: &Path, functions: &Functions, args: &TokenArgs) -> Result<()> {
    let site = Site::load(dir, functions).await?;
    let stores = site.stores().await?;
    let tokens = Tokens::new(stores.store.clone());
    match &args.command {
        TokenCommand::Create { name, ingest, read, admin, expires } => {
            let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
            let scopes = Scopes { ingest: set(ingest), read: set(read), admin: *admin };
            check(&site, &scopes)?;
            make_private(&site)?;
            create(&tokens, name, scopes, *expires).await
        }
        TokenCommand::List => list(&tokens).await,
        TokenCommand::Revoke { name } => {
            let left = tokens.revoke(name, clock::nanos()).await?;
            eprintln!("revoked {name}; running servers follow within seconds");
            if left == 0 {
                eprintln!(
                    "no token is left: servers go on asking for one. Remove {TOKENS}/ from the store, and restart them, \
                     to let everybody in"
                );
            }
            Ok(())
        }
    }
}

async fn create(tokens: &Tokens, name: &str, scopes: Scopes, expires: Option<Duration>) -> Result<()> {
    let now = clock::nanos();
    let first = tokens.list().await?.is_none();
    let until = expires.map(|of| i64::try_from(of.as_nanos()).ok().and_then(|of| now.checked_add(of)));
    let until = match until {
        Some(None) => bail!("--expires is too far away"),
        until => until.flatten(),
    };
    let token = Token::random()?;
    let record = TokenRecord::new(name, &token, scopes, now, until)?;
    tokens.add(&record).await?;
    let valid = until.map_or_else(|| "until it is revoked".into(), |at| format!("until {}", rfc3339(at)));
    eprintln!("{name} may: {}; valid {valid}. It is shown this once:", record.scopes);
    print(format!("{}\n", token.reveal()))?;
    if first {
        eprintln!("from now on servers ask for a token; commands on this machine need none");
    }
    Ok(())
}

async fn list(tokens: &Tokens) -> Result<()> {
    let Some(list) = tokens.list().await? else {
        return print("there are no tokens, and none is needed: `twofold token create` makes the first\n");
    };
    let now = clock::nanos();
    let day = |at: i64| DateTime::<Utc>::from_timestamp_nanos(at).format("%Y-%m-%d %H:%M").to_string();
    let lines: Vec<Vec<String>> = (list.tokens.iter())
        .map(|record| {
            let until = match record.expires {
                None => "-".into(),
                Some(at) if record.is_expired(now) => format!("{} (expired)", day(at)),
                Some(at) => day(at),
            };
            vec![record.name.clone(), record.scopes.to_string(), day(record.created), until]
        })
        .collect();
    let tokens = counted(list.tokens.len() as u64, "token");
    let table = columns(&["name", "may", "created", "expires"], &lines);
    print(format!("{table}{tokens}; times are UTC\n"))
}

/// Refuses scopes of what is not there: a typo would be found only when something is refused.
fn check(site: &Site, scopes: &Scopes) -> Result<()> {
    let catalog = &site.catalog;
    let streams = &site.project.streams;
    let names = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>().join(", ");
    for stream in scopes.ingest.iter().filter(|name| *name != ALL) {
        if !streams.contains_key(stream) {
            bail!(
                "--ingest {stream}: there is no such stream; there are: {}",
                names(streams.keys().collect())
            );
        }
    }
    for relation in scopes.read.iter().filter(|name| *name != ALL) {
        let known = catalog.views().contains_key(relation)
            || catalog.query_views().contains_key(relation)
            || catalog.streams().contains_key(relation)
            || catalog.tables().contains_key(relation)
            || [AUDIT, LATE_EVENTS].contains(&relation.as_str());
        if !known {
            let views = catalog.views().keys().chain(catalog.query_views().keys());
            let all = views.chain(catalog.streams().keys()).chain(catalog.tables().keys()).collect();
            bail!("--read {relation}: there is no such view, stream or table; there are: {}", names(all));
        }
    }
    Ok(())
}

/// Keeps the list from others on this machine: what it has for SCRAM would let them pass for a token's bearer.
#[cfg(unix)]
fn make_private(site: &Site) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let StoreLocation::Path(store) = &site.project.config.store else { return Ok(()) };
    let dir = store.join(TOKENS);
    let about = || dir.display().to_string();
    std::fs::create_dir_all(&dir).with_context(about)?;
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).with_context(about)
}

#[cfg(not(unix))]
fn make_private(_: &Site) -> Result<()> {
    Ok(())
}
