//! Waking up when somebody says so (`notify`), on a connection of its own.
//!
//! What is woken for stands in tables; a notification carries nothing. So one that is missed costs
//! time, never work: whoever waits looks once a second in any case ([`LOOK_EVERY`]), and is woken after
//! every connection that was made, because something may have been said while there was none.

use std::future::{pending, poll_fn};
use std::hash::BuildHasher;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Config, NoTls, Socket};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Postgres, Tls};
use crate::kit::retry;

/// How often is looked though nobody has said anything.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Listens on one channel of Postgres.
#[derive(Debug)]
pub struct Listener {
    postgres: Postgres,
    application: String,
    channel: &'static str,
    wakes: watch::Sender<u64>,
}

/// One who is woken.
#[derive(Debug, Clone)]
pub struct Wakes(watch::Receiver<u64>);

impl Wakes {
    /// Waits until somebody said something since the last time, at most for [`LOOK_EVERY`].
    /// Cancel safety: a wake-up that is not returned is returned the next time.
    pub async fn next(&mut self) {
        let woken = async {
            if self.0.changed().await.is_err() {
                // Nobody listens any more.
                pending::<()>().await;
            }
        };
        tokio::select! {
            () = woken => {}
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

impl Listener {
    /// Opens no connection yet.
    pub fn new(postgres: &Postgres, application: &str, channel: &'static str) -> Self {
        let (postgres, application) = (postgres.clone(), application.to_owned());
        Self { postgres, application, channel, wakes: watch::Sender::new(0) }
    }

    /// One more who is woken.
    pub fn wakes(&self) -> Wakes {
        Wakes(self.wakes.subscribe())
    }

    /// Listens until the token is cancelled; connects again whenever it has to.
    pub async fn run(self, token: CancellationToken) -> anyhow::Result<()> {
        // Cancel safety: nothing is kept.
        token.run_until_cancelled(self.go()).await.unwrap_or(Ok(()))
    }

    async fn go(&self) -> anyhow::Result<()> {
        let mut attempt = 0;
        loop {
            let heard = *self.wakes.borrow();
            let Err(error) = self.listen().await;
            // Somebody has been woken, so there was a connection.
            attempt = if *self.wakes.borrow() == heard { attempt + 1 } else { 0 };
            if attempt <= 1 {
                warn!(error = format!("{error:#}"), channel = self.channel, "notifications are not heard");
            }
            sleep(retry::pause(attempt, std::hash::RandomState::new().hash_one(attempt))).await;
        }
    }

    /// One connection, as long as it lasts.
    async fn listen(&self) -> anyhow::Result<std::convert::Infallible> {
        let config = self.postgres.client_config(&self.application)?;
        match self.postgres.tls {
            Tls::Disable => self.listen_over(config, NoTls).await,
            Tls::Require => self.listen_over(config, self.postgres.tls_connector()?).await,
        }
    }

    async fn listen_over<T>(&self, config: Config, tls: T) -> anyhow::Result<std::convert::Infallible>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + Unpin,
    {
        let connecting = timeout(self.postgres.connect_timeout, config.connect(tls));
        let (client, mut connection) = connecting.await.context("connect to postgres: too slow")??;
        let begin = async {
            client.batch_execute(&format!("listen {}", self.channel)).await.context("listen")?;
            info!(channel = self.channel, "notifications are heard");
            self.wake();
            pending().await
        };
        let hear = async {
            loop {
                match poll_fn(|context| connection.poll_message(context)).await {
                    Some(Ok(AsyncMessage::Notification(_))) => self.wake(),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error).context("connection of notifications"),
                    None => bail!("postgres has closed the connection of notifications"),
                }
            }
        };
        // Cancel safety: the first never ends well, the second never ends while there is a connection.
        tokio::select! {
            failed = begin => failed,
            failed = hear => failed,
        }
    }

    fn wake(&self) {
        self.wakes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::kit::postgres::testing;
    use crate::kit::testing::eventually;

    const SOON: Duration = Duration::from_secs(10);
    const LISTENERS: &str = "select count(*) from pg_stat_activity where application_name = 'ears'
        and datname = current_database()";

    async fn count(pool: &deadpool_postgres::Pool, sql: &str) -> i64 {
        pool.get().await.unwrap().query_one(sql, &[]).await.unwrap().get(0)
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_also_after_the_connection_was_lost() {
        let postgres = testing::database().await.unwrap();
        let pool = postgres.pool("tests", None).unwrap();
        let listener = Listener::new(&postgres, "ears", "news");
        let mut seen = listener.wakes.subscribe();
        let token = CancellationToken::new();
        let task = tokio::spawn(listener.run(token.clone()));
        let mut wakes = async || timeout(SOON, seen.changed()).await.unwrap().unwrap();
        wakes().await; // It listens.
        let say = async |channel: &str| {
            pool.get().await.unwrap().batch_execute(&format!("notify {channel}, 'email'")).await.unwrap();
        };
        say("other").await;
        say("news").await;
        wakes().await;
        let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity
            where application_name = 'ears' and datname = current_database()";
        assert_eq!(count(&pool, kill).await, 1);
        wakes().await; // It listens again: something may have been missed.
        say("news").await;
        wakes().await;
        token.cancel();
        task.await.unwrap().unwrap();
        eventually(SOON, "the connection is closed", async || count(&pool, LISTENERS).await == 0).await;
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_not_woken_looks_all_the_same() {
        let (sender, receiver) = watch::channel(0);
        let mut wakes = Wakes(receiver);
        let start = Instant::now();
        wakes.next().await;
        assert_eq!(start.elapsed(), LOOK_EVERY);
        sender.send_replace(1);
        wakes.next().await;
        assert_eq!(start.elapsed(), LOOK_EVERY);
        drop(sender);
        wakes.next().await;
        assert_eq!(start.elapsed(), 2 * LOOK_EVERY);
    }
}
