//! A lock: reports now and then, carries out commands, and answers each with a result.
//!
//! Its reports are numbered (`n` in the payload), so that order and losses show.

use std::net::SocketAddr;

use anyhow::{bail, ensure};
use bytes::Bytes;
use latchline_shared::command::ShortSign;
use latchline_shared::keys::CommandKey;
use latchline_shared::kit::clock;
use latchline_shared::message::{Protocol, Qos};
use tokio::time::{Instant, sleep, sleep_until};

use super::window::Window;
use super::{CONNECT_AGAIN_AFTER, Habits};
use crate::checker::ledger::Ledger;
use crate::client::Client;
use crate::client::packet::{self, Ack, Packet, Publish};
use crate::lock::decide::{Decision, Known, Refusal, decide};
use crate::lock::nonces::Nonces;
use crate::lock::state;
use crate::mqtt::Received;
use crate::site::Site;
use crate::stack::secrets::Secrets;
use crate::stack::{command_topic, state_topic};

/// Unacknowledged reports of one lock; it reports nothing more until there are less.
const WINDOW_MAX: usize = 20;
const BATTERY_PERCENT: f64 = 83.4;

pub(super) struct Lock {
    id: String,
    protocol: Protocol,
    server: SocketAddr,
    secrets: Secrets,
    key: CommandKey,
    ledger: Ledger,
    habits: Habits,
    state: state::Lock,
    nonces: Nonces,
    window: Window<u64>,
}

impl Lock {
    pub(super) fn new(
        site: &Site,
        id: String,
        protocol: Protocol,
        ledger: Ledger,
        mut habits: Habits,
    ) -> Self {
        // Sixteen digits, like those of the reference.
        let process_id = 1_000_000_000_000_000 + habits.random.below(9_000_000_000_000_000);
        Self {
            protocol,
            server: site.mqtt,
            secrets: site.secrets.clone(),
            key: site.secrets.master.command_key(&id),
            ledger,
            habits,
            state: state::Lock::new(&id, process_id.to_string(), BATTERY_PERCENT, 0.0),
            nonces: Nonces::default(),
            window: Window::default(),
            id,
        }
    }

    /// Runs until it shall stop and every report is acknowledged.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        loop {
            if let Ok((client, _)) = self.secrets.connect_lock(self.server, &self.id, self.protocol).await {
                match self.talk(client).await {
                    Ok(()) => return Ok(()),
                    Err(error) => tracing::debug!(lock = %self.id, error = format!("{error:#}"), "again"),
                }
                self.ledger.disconnected(&self.id);
            }
            sleep(CONNECT_AGAIN_AFTER).await;
        }
    }

    /// One connection. An error is its end.
    async fn talk(&mut self, mut client: Client) -> anyhow::Result<()> {
        let subscription = self.window.next_id();
        let filter = command_topic(&self.id);
        client.send(&packet::subscribe(self.protocol, subscription, &[(&filter, Qos::AtLeastOnce)])).await?;
        self.window.send_again(&mut client, |n| self.ledger.report_sent(&self.id, *n)).await?;
        let stop = self.habits.stop.clone();
        let mut report_at = Instant::now();
        while !(stop.is_cancelled() && self.window.len() == 0) {
            let may_report = self.window.len() < WINDOW_MAX && !stop.is_cancelled();
            // Cancel safety: a packet that was read in part stays in the client, a timer keeps its
            // instant, a token stays cancelled.
            tokio::select! {
                packet = client.receive() => self.take(&mut client, packet?).await?,
                () = sleep_until(report_at), if may_report => {
                    let payload = self.state.report();
                    self.report(&payload, None);
                    self.send_last(&mut client).await?;
                    report_at = self.habits.next();
                }
                () = stop.cancelled(), if !stop.is_cancelled() => continue,
            }
            if self.habits.breaks() {
                bail!("it breaks the connection, without DISCONNECT");
            }
        }
        client.disconnect().await
    }

    async fn take(&mut self, client: &mut Client, packet: Packet) -> anyhow::Result<()> {
        match packet {
            // MQTT 5 may say that nobody has subscribed (0x10).
            Packet::Ack { kind: Ack::PubAck, id, code: 0 | 0x10 } => match self.window.acked(id) {
                Ok(n) => self.ledger.report_acked(&self.id, n),
                Err(error) => self.ledger.broken(format!("{}: {error}", self.id)),
            },
            Packet::Granted { codes, .. } => {
                ensure!(codes == [Qos::AtLeastOnce.level()], "the subscription is not granted: {codes:?}");
                self.ledger.granted(&self.id);
            }
            Packet::Publish(command) => return self.obey(client, command).await,
            Packet::Disconnect { code } => bail!("DISCONNECT with {code:#04x}"),
            other => self.ledger.broken(format!("{}: {other:?} came unasked", self.id)),
        }
        Ok(())
    }

    async fn obey(&mut self, client: &mut Client, message: Publish) -> anyhow::Result<()> {
        let Publish { topic, payload, qos, dup, retain, id } = message;
        let received = Received { topic, payload, qos, dup, retain };
        let now_ms = i64::try_from(clock::unix_ms())?;
        let known = Known {
            id: &self.id,
            key: &self.key,
            short_sign: ShortSign::Refused,
            nonces: &self.nonces,
            now_ms,
        };
        match decide(known, &received) {
            Decision::Act(command) => {
                self.nonces.insert(&command.nonce, now_ms / 1000);
                let outcome = self.state.act(&command.process_id, command.action);
                let answer = self.state.answer(&command.process_id, command.action, outcome);
                // Before anything is sent: it survives a connection that ends here.
                self.report(&answer, Some(&command.process_id));
                // Either may be first: a lock may be as fast as it likes.
                if self.habits.random.chance(50) {
                    self.acknowledge(client, &command.process_id, id).await?;
                    self.send_last(client).await?;
                } else {
                    self.send_last(client).await?;
                    self.acknowledge(client, &command.process_id, id).await?;
                }
            }
            // The broker delivers again what was not acknowledged.
            Decision::Refuse { refusal: Refusal::Replay, answers: Some((process_id, _)) } if dup => {
                self.acknowledge(client, &process_id, id).await?;
            }
            Decision::Refuse { refusal, answers } => {
                self.ledger.broken(format!("{} refuses {answers:?}: {}", self.id, refusal.name()));
                client.ack(Ack::PubAck, id).await?;
            }
        }
        Ok(())
    }

    async fn acknowledge(&self, client: &mut Client, process_id: &str, id: u16) -> anyhow::Result<()> {
        self.ledger.received(process_id);
        client.ack(Ack::PubAck, id).await
    }

    async fn send_last(&self, client: &mut Client) -> anyhow::Result<()> {
        self.window.send_last(client, |n| self.ledger.report_sent(&self.id, *n)).await
    }

    fn report(&mut self, payload: &str, result_of: Option<&str>) {
        let (n, payload) =
            self.ledger.report(&self.id, result_of.map(str::to_owned), |n| numbered(payload, n));
        self.window.push(state_topic(&self.id), payload, n);
    }
}

/// The payload with one field more.
fn numbered(payload: &str, n: u64) -> Bytes {
    let open = payload.trim_end().trim_end_matches('}').trim_end();
    format!(r#"{open},   "n": {n} }}"#).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_one_field_more() {
        assert_eq!(numbered(r#"{   "a": 1 }"#, 7), r#"{   "a": 1,   "n": 7 }"#);
    }
}
