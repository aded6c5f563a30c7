//! What happens to the users of the benchmark: results at a rate, and a critical alarm each second.

use std::cell::Cell;
use std::time::Duration;

use latchline_shared::alarm::{AlarmRecord, AlarmType, Change, Origin, Severity, State};
use latchline_shared::kit::clock;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::feed::{Feed, Scene, Unsent};
use crate::stack::notifier::User;
use crate::stack::{ALARMS, STATES};

/// A mail and an SMS.
const CHANNELS: u64 = 2;

/// Sends records.
pub(super) struct Load {
    feed: Feed,
    users: u64,
    sent: Cell<u64>,
}

impl Load {
    pub(super) fn new(bootstrap: &str, users: u64) -> anyhow::Result<Self> {
        Ok(Self { feed: Feed::open(bootstrap)?, users, sent: Cell::new(0) })
    }

    /// The users, each with a lock.
    pub(super) fn users(&self) -> Vec<User> {
        let user = |n| User { id: format!("user-{n}"), phone: 9_000_000_000 + n, locks: vec![lock(n)] };
        (0..self.users).map(user).collect()
    }

    /// Results of one lock after the other, at this rate; returns how many messages are due.
    pub(super) async fn results(
        &self,
        per_second: f64,
        window: Duration,
        with_alarms: bool,
    ) -> anyhow::Result<u64> {
        let (begun, mut messages) = (Instant::now(), 0);
        let results = (per_second * window.as_secs_f64()) as u64;
        for n in 0..results {
            sleep_until(begun + Duration::from_secs_f64(n as f64 / per_second)).await;
            let number = self.sent.replace(self.sent.get() + 1);
            let lock = lock(number % self.users);
            // The record is seen 40 ms after its command.
            let scene = Scene { lock: &lock, n: number, ts_ms: clock::unix_ms() - 40 };
            self.feed.send(STATES, &scene.result())?;
            messages += CHANNELS;
            if with_alarms && n % (per_second as u64) == 0 {
                self.feed.send(ALARMS, &alarm(&lock, number)?)?;
                messages += CHANNELS;
            }
        }
        self.feed.flush()?;
        Ok(messages)
    }
}

fn lock(n: u64) -> String {
    format!("{n:017}")
}

/// The motor of a lock is blocked.
fn alarm(lock: &str, n: u64) -> anyhow::Result<Unsent> {
    let at = i64::try_from(clock::unix_ms())?;
    let alarm = AlarmRecord {
        event_id: Uuid::from_u128(u128::from(n) << 1 | 1).to_string(),
        alarm_id: Uuid::from_u128(u128::from(n) << 1).to_string(),
        no: 1,
        client_id: lock.to_owned(),
        alarm_type: AlarmType::LockFault,
        severity: Severity::Critical,
        change: Change::Raised,
        from: None,
        to: State::Active,
        at,
        raised_at: at,
        origin: Origin::Report,
        actor: "monitor".to_owned(),
        cause: Value::Null,
        value: Value::Null,
        count: 1,
        level: 0,
        notify: true,
        suppressed_by: None,
    };
    Ok(Unsent { key: lock.to_owned(), value: serde_json::to_vec(&alarm)?, mid: u128::from(n) })
}
