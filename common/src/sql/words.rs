//! The names that window functions go by.

/// The window functions: `tumble(ts, size)` and so on; they may stand in `FROM` too.
pub(super) const WINDOWS: [&str; 4] = ["tumble", "hop", "cumulate", "session"];

/// The function that the partition columns of a session are the arguments of.
pub(super) const PARTITION_BY: &str = "PARTITION_BY";
