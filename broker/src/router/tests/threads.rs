//! Many threads at once: everyone finds what they subscribed, and nothing is left behind.

use std::thread;

use super::super::Router;
use super::*;

const THREADS: u64 = 8;
const ROUNDS: usize = 500;

#[test]
fn threads_do_not_disturb_each_other() {
    let router = Router::new();
    let sessions: Vec<_> = (1..=THREADS).map(mailbox).collect();
    thread::scope(|scope| {
        for session in &sessions {
            scope.spawn(|| work(&router, session));
        }
    });
    assert_eq!(router.subscription_count(), 0);
    assert_eq!((router.wildcard.nodes(), router.exact.size()), (0, (0, 0)));
    assert!(sessions.iter().all(|session| Arc::strong_count(session) == 1));
}

/// Subscribes to filters of its own and to ones that all threads fight over.
fn work(router: &Router, session: &Arc<Mailbox>) {
    let key = session.key();
    let own = format!("devices/{}/command", key.0);
    let filters = [&*own, "devices/+/command", "devices/all", "#", "$share/g/devices/+/command"];
    let mut out = Vec::new();
    let mut hits = |topic: &str, shared: bool| {
        router.matches(topic, None, &mut out);
        let group = out.iter().filter(|found| found.shared).count();
        assert!(group <= 1, "one member of a group, not {group}");
        out.iter().filter(|found| found.mailbox.key() == key && found.shared == shared).count()
    };
    for _ in 0..ROUNDS {
        for filter in filters {
            assert!(!router.subscribe(filter, plain(session)));
        }
        assert_eq!(hits(&own, false), 1, "overlapping ones are merged");
        assert_eq!(hits("devices/all", false), 1);
        assert!(hits(&own, true) <= 1);
        for filter in filters {
            assert!(router.unsubscribe(filter, key));
        }
        assert_eq!(hits(&own, false) + hits(&own, true), 0);
    }
}
