//! How a command ends that did what it says.

/// What a command that did what it says found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to worry about.
    Done,
    /// Two things that must be equal are not.
    Different,
}
