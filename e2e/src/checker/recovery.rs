//! Whether the system is over what was done to it: who comes back says so, and goes on reading. Another
//! fault before that would strike those who are still away from the one before.

use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep};

use crate::stack::whole::Whole;

const LOOK_EVERY: Duration = Duration::from_millis(50);
const SERVICES: [&str; 3] = ["auditor", "monitor", "notifier"];

/// How far each service has read, all partitions together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Positions([i64; 3]);

impl Positions {
    /// As they are stored now.
    pub async fn of(whole: &Whole) -> anyhow::Result<Self> {
        let client = whole.postgres.connect().await?;
        let mut positions = [0; 3];
        for (position, service) in positions.iter_mut().zip(SERVICES) {
            let query =
                format!("select coalesce(sum(next_offset), 0)::bigint from {service}.consumer_offset");
            *position = client.query_one(&query, &[]).await?.get(0);
        }
        Ok(Self(positions))
    }

    /// Who has not read on since then.
    fn stuck(self, since: Self) -> Option<&'static str> {
        let both = self.0.into_iter().zip(since.0);
        SERVICES.into_iter().zip(both).find(|(_, (now, then))| now <= then).map(|(service, _)| service)
    }
}

/// Waits until each service has read on since then and every program says that it is ready. Ask while
/// there is traffic.
pub async fn recovered(whole: &Whole, since: Positions, deadline: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + deadline;
    loop {
        let waiting = match Positions::of(whole).await.map(|now| now.stuck(since)) {
            Ok(None) => break,
            Ok(Some(service)) => format!("the {service} does not read on"),
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() >= until {
            bail!("not recovered after {deadline:?}: {waiting}");
        }
        sleep(LOOK_EVERY).await;
    }
    whole.site()?.ready(until.saturating_duration_since(Instant::now())).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_read_on_is_found() {
        let then = Positions([5, 6, 7]);
        for (now, stuck) in [
            ([6, 7, 8], None),
            ([5, 7, 8], Some("auditor")),
            ([6, 6, 8], Some("monitor")),
            ([6, 7, 6], Some("notifier")),
        ] {
            assert_eq!(Positions(now).stuck(then), stuck, "{now:?}");
        }
    }
}
