//! Failpoints: places where a test may end the process, as a power cut would.
//!
//! `TWOFOLD_FAILPOINT=<name>` aborts the process when it comes to that place, `<name>:<n>` when it does so for the n-th
//! time. Only debug builds look; in a release build [`Failpoint::reach`] does nothing.

/// A step of I/O before or after which a process may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failpoint {
    /// Events stand in the log's transaction, which is not durable yet.
    AppendWritten,
    /// The log's transaction is durable, and nobody was told.
    AppendDurable,
    /// States and offsets of an epoch, a seal or a retirement stand in their transaction, which is not durable yet.
    StatesWritten,
    /// That transaction is durable, and nobody sees it yet.
    StatesDurable,
    /// The state of a whole segment is merged, and the segment still open.
    SealMerged,
    /// The segment is sealed, and the archiver not told.
    SealDurable,
    /// A file is written beside its name.
    FileStaged,
    /// A file has its name, and its directory is not synced.
    FileNamed,
    /// A segment's file is written and verified, and no manifest names it.
    SegmentWritten,
    /// A file of a batch view's state is written and verified, and no manifest names it.
    BatchStateWritten,
    /// It is this writer's turn to put a manifest.
    ManifestUnpublished,
    /// The manifest is put, and nobody was told.
    ManifestPublished,
    /// The states that a batch view covers are dropped, and the log is not trimmed.
    StatesRetired,
    /// The log is trimmed, and its segments are still known.
    LogTrimmed,
}

impl Failpoint {
    /// All of them.
    pub const ALL: [Failpoint; 14] = [
        Failpoint::AppendWritten,
        Failpoint::AppendDurable,
        Failpoint::StatesWritten,
        Failpoint::StatesDurable,
        Failpoint::SealMerged,
        Failpoint::SealDurable,
        Failpoint::FileStaged,
        Failpoint::FileNamed,
        Failpoint::SegmentWritten,
        Failpoint::BatchStateWritten,
        Failpoint::ManifestUnpublished,
        Failpoint::ManifestPublished,
        Failpoint::StatesRetired,
        Failpoint::LogTrimmed,
    ];

    /// What `TWOFOLD_FAILPOINT` calls it.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// Ends the process here, if that was asked for.
    #[inline]
    pub fn reach(self) {
        #[cfg(debug_assertions)]
        armed::reach(self);
    }
}

#[cfg(debug_assertions)]
mod armed {
    use super::Failpoint;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ARMED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static REACHED: AtomicU64 = AtomicU64::new(0);

    pub(super) fn reach(point: Failpoint) {
        let Some((name, at)) = ARMED.get_or_init(armed) else { return };
        if point.name() == *name && REACHED.fetch_add(1, Ordering::SeqCst) + 1 == *at {
            tracing::warn!(failpoint = name, at, "the process ends here, as it was asked to");
            std::process::abort();
        }
    }

    fn armed() -> Option<(String, u64)> {
        parse(&std::env::var("TWOFOLD_FAILPOINT").ok()?)
    }

    pub(super) fn parse(armed: &str) -> Option<(String, u64)> {
        match armed.split_once(':') {
            None => Some((armed.to_string(), 1)),
            Some((name, at)) => Some((name.to_string(), at.parse().ok()?)),
        }
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::armed::parse;

    #[test]
    fn the_variable_names_a_place_and_a_time() {
        assert_eq!(parse("LogTrimmed"), Some(("LogTrimmed".into(), 1)));
        assert_eq!(parse("LogTrimmed:3"), Some(("LogTrimmed".into(), 3)));
        assert_eq!(parse("LogTrimmed:x"), None);
    }
}
