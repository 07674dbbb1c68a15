//! Parity of everything: every aggregate function over every type of column, every window, grouping set, join and
//! other construct, on wild events.
//!
//! ```text
//! batch only = speed only = hand-off at every boundary = a plain query over all events        bit for bit
//! ```
//!
//! The queries are generated; what the engine itself cannot plan is a list that a test asserts, so that
//! nothing drops out unseen. [`laws`] tries them on states, [`hand_off`] some of them in the whole platform, [`exact`] holds
//! their values against arithmetic of its own, and [`versions`] is about states of other versions.
//!
//! The plain query knows our functions, and no windows of ours. Where the engine leaves an order open it says the one
//! that the view has, and where values are keys it takes `-0` for `0`. A plain sum that does not fit is an error, and
//! then the view's must be one.
//!
//! # Replaying
//!
//! Every random thing is in the case that proptest prints. It keeps the seed of a failure in
//! `proptest-regressions/everything/…`, and tries it first from then on: commit that file with the fix.
//! `PROPTEST_RNG_SEED=n` makes a whole run repeatable, `TWOFOLD_CASES=n` sets how many cases there are.

mod calls;
mod constructs;
mod exact;
mod hand_off;
mod laws;
mod queries;
mod versions;
mod wild;
