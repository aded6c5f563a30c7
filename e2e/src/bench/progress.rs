//! What a long benchmark tells while it runs: which part begins, and what a part that has ended came
//! to. Whoever is told prints it and keeps the figures so far, so that a run that fails, or is ended,
//! has not been for nothing.

/// What has happened.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a, T> {
    /// This begins.
    Begins(&'a str),
    /// This has ended: the figures so far, and the part of the table that it came to.
    Ended(&'a T, &'a str),
}
