//! The door through which a command asks: the running server if there is one, else the stores themselves.

use super::found_speed::FoundSpeed;
use super::run_file::{Layer, find};
use super::site::Site;
use super::speed_node::SpeedNode;
use crate::client::Client;
use crate::credentials::Credentials;
use crate::progress::while_building;
use anyhow::Result;
use std::path::Path;
use std::sync::Arc;
use twofold_common::{Config, Functions, SpeedLayer};
use twofold_serving::{Rows, Serving, Status, Trust};

/// Who answers.
#[derive(Debug)]
pub(crate) enum Door {
    /// A running server.
    Server(Client),
    /// This process, over the speed layer of another one.
    Beside(Box<Serving>),
    /// This process alone, which owns the data directory meanwhile.
    Alone { serving: Box<Serving>, _node: SpeedNode },
}

impl Door {
    /// Finds out who answers. If it is this process alone, it is brought up to what is in the log first; but before
    /// anything is opened, `sql` is planned.
    pub(crate) async fn open(
        dir: &Path,
        functions: &Functions,
        sql: Option<&str>,
        command: &str,
    ) -> Result<Self> {
        // A running server answers by the project as it was when it started: the files of today do not matter.
        if let Some(client) = server(dir).await? {
            return Ok(Self::Server(client));
        }
        let site = Site::load(dir, functions).await?;
        if let Some(sql) = sql {
            site.catalog.plan(sql).await?;
        }
        let stores = site.stores().await?;
        let serving = |versions, speed: Arc<dyn SpeedLayer>| {
            let (archive, batch_views) = (stores.archive.clone(), stores.batch_views.clone());
            Box::new(Serving::with_versions(versions, archive, batch_views, speed))
        };
        let speed = FoundSpeed::of(&site);
        // A speed layer elsewhere owns the log: without it there is no answer, rather than one from what is here.
        if site.project.config.speed.url.is_some() || speed.is_running().await {
            return Ok(Self::Beside(serving(site.versions(&stores).await, Arc::new(speed))));
        }
        let node = SpeedNode::open(&site, &stores, command).await?;
        while_building(node.layer(), node.catch_up()).await?;
        Ok(Self::Alone { serving: serving(node.engine().versions(), node.layer()), _node: node })
    }

    pub(crate) async fn query(&self, sql: &str) -> Result<Rows> {
        match self {
            Door::Server(client) => client.query(sql).await,
            Door::Beside(serving) | Door::Alone { serving, .. } => Ok(serving.query(sql).await?),
        }
    }

    pub(crate) async fn status(&self) -> Result<Status> {
        match self {
            Door::Server(client) => client.status().await,
            Door::Beside(serving) | Door::Alone { serving, .. } => Ok(serving.status().await?),
        }
    }
}

/// The server that was named, or the running one over the data directory of the project in `dir`, if there is one and it
/// answers.
pub(crate) async fn server(dir: &Path) -> Result<Option<Client>> {
    let Credentials { server, token, ca } = Credentials::given();
    if let Some(url) = server {
        return Ok(Some(Client::with(&url, token, ca.map(Trust::Authorities).as_ref())?));
    }
    let Some(running) = find(&Config::load(dir)?.data, Layer::Serve) else { return Ok(None) };
    // A token that was given counts: somebody may want to see what it opens.
    let client = Client::with(&running.url, token.or(running.token()), running.trust().as_ref())?;
    Ok(client.is_alive().await.then_some(client))
}
