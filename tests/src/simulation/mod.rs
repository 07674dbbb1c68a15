//! A simulation of the whole platform in one thread, in which everything that may happen is drawn from a seed: who takes
//! the next step, which I/O fails and how, who is killed where.
//!
//! ```text
//! seed -> order of steps, faults, kills        the same seed gives the same run
//! ```
//!
//! Producers, the engine, archivers, batch runs, queries and the garbage collector are futures that know nothing of the
//! simulation. Each I/O of theirs, on the object store and on the log, waits at a [`gate`] before it is done, and a write
//! once more before it is answered. So at any time all of them stand at some I/O, and the [`schedule`] lets one go on to
//! its next. To kill is to drop a future where it stands: what it has written stays, what it would write never comes.
//!
//! | file        | what it is                                                                                          |
//! | ----------- | --------------------------------------------------------------------------------------------------- |
//! | `gate`      | where every I/O waits, and which faults it meets with                                                 |
//! | `store`     | an object store with faults: errors, timeouts, torn writes, lost answers, cut bodies, stale listings  |
//! | `log`       | a log with faults: errors before, and lost answers after an append or trim                            |
//! | `world`     | what there is: the platform, and the ledger of what was sent and acknowledged                         |
//! | `actors`    | what each actor does in one go, and what must be true of its end                                      |
//! | `schedule`  | whose turn it is                                                                                      |
//! | `end`       | what must be true when all faults are over                                                            |
//!
//! After each query the answer equals a plain query over the events that it covers, bit for bit, or it is an error of a
//! kind that says to try again. In the end everything acknowledged is in the answers once, everything else at most once;
//! the layers agree; and the archive holds every event once.
//!
//! `TWOFOLD_SEED=n` runs one seed, `TWOFOLD_SEEDS=n` as many from 0 on. What it does not say: how long anything takes, and
//! what becomes of a redb file under faults (`kills` kills real processes for that).

mod actors;
mod end;
mod gate;
mod log;
mod schedule;
mod store;
mod tests;
mod world;
