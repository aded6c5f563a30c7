//! Tests of the router as a whole: rules by tables, everything by models, threads, and figures.

mod figures;
mod filter_model;
mod retained_model;
mod rules;
mod threads;

use std::sync::Arc;

use latchline_shared::message::Qos;

use super::{Match, Subscription};
use crate::session::mailbox::{Mailbox, QueueLimits, SessionKey};

/// A mailbox of an offline session.
fn mailbox(key: u64) -> Arc<Mailbox> {
    let limits = QueueLimits { messages_max: 10, bytes_max: 10_000 };
    Arc::new(Mailbox::new(SessionKey(key), format!("client-{key}").into(), limits))
}

/// A subscription without options.
fn plain(mailbox: &Arc<Mailbox>) -> Subscription {
    Subscription {
        mailbox: Arc::clone(mailbox),
        qos: Qos::AtLeastOnce,
        no_local: false,
        retain_as_published: false,
        id: None,
    }
}

/// A [`Match`] as something to compare.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    shared: bool,
    key: SessionKey,
    qos: Qos,
    retain_as_published: bool,
    ids: Vec<u32>,
}

/// What was found, in an order of its own.
fn seen(matches: &[Match]) -> Vec<Seen> {
    let mut seen: Vec<Seen> = matches
        .iter()
        .map(|found| {
            let mut ids = found.ids.to_vec();
            ids.sort_unstable();
            Seen {
                shared: found.shared,
                key: found.mailbox.key(),
                qos: found.qos,
                retain_as_published: found.retain_as_published,
                ids,
            }
        })
        .collect();
    seen.sort();
    seen
}
