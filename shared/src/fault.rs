//! What can go wrong with the outside world, classified once.
//!
//! Retry, dead-letter and metrics all branch on [`Fault`] and on nothing else.

use std::borrow::Cow;
use std::time::Duration;

/// A failure of the outside world.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The same attempt can never succeed.
    #[error("permanent: {0}")]
    Permanent(Cow<'static, str>),
    /// A later attempt may succeed.
    #[error("transient: {why}")]
    Transient {
        /// Do not try before this much time has passed, if the other side said so.
        after: Option<Duration>,
        /// What happened.
        why: Cow<'static, str>,
    },
    /// Our own mistake: an invariant did not hold.
    #[error("bug: {0}")]
    Bug(Cow<'static, str>),
}

impl Fault {
    /// A transient fault without a time to wait.
    pub fn transient(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Transient { after: None, why: why.into() }
    }
}
