//! The speed layer's states for whoever compares: those of a running speed layer, else those that it left in this data
//! directory.

use super::found_speed::FoundSpeed;
use super::site::{Site, Stores};
use super::speed_node::SpeedNode;
use async_trait::async_trait;
use tokio::sync::OnceCell;
use twofold_common::{Result, SegmentState, SpeedLayer, SpeedStates, State};

/// Where states are looked up. The data directory is only opened if one is asked for, and held from then on.
#[derive(Debug)]
pub(crate) struct HeldStates<'a> {
    site: &'a Site,
    stores: &'a Stores,
    command: &'a str,
    node: OnceCell<Option<SpeedNode>>,
}

impl<'a> HeldStates<'a> {
    pub(crate) fn of(site: &'a Site, stores: &'a Stores, command: &'a str) -> Self {
        Self { site, stores, command, node: OnceCell::new() }
    }

    async fn open(&self) -> Option<SpeedNode> {
        if !self.site.data_dir().join("state.redb").exists() {
            return None;
        }
        let opened = SpeedNode::open(self.site, self.stores, self.command).await;
        opened
            .inspect_err(|e| tracing::warn!(error = %e, "the speed layer's states cannot be looked up"))
            .ok()
    }
}

#[async_trait]
impl SpeedStates for HeldStates<'_> {
    async fn state_of(&self, segment: &SegmentState) -> Result<Option<State>> {
        let speed = FoundSpeed::of(self.site);
        if speed.is_running().await {
            return speed.segment_state(segment).await;
        }
        if self.site.project.config.speed.url.is_some() {
            return Ok(None);
        }
        match self.node.get_or_init(|| self.open()).await {
            Some(node) => node.engine().segment_state(segment).await,
            None => Ok(None),
        }
    }
}
