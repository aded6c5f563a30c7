//! An operator: sends signed commands to locks that listen, and sends again what was not acknowledged.

use std::net::SocketAddr;

use anyhow::bail;
use latchline_shared::command::Action;
use latchline_shared::message::Protocol;
use tokio::time::{sleep, sleep_until};

use super::window::Window;
use super::{CONNECT_AGAIN_AFTER, Habits};
use crate::checker::ledger::{Ledger, Said};
use crate::client::Client;
use crate::client::packet::{Ack, Connect, Packet};
use crate::operator::Command;
use crate::random;
use crate::site::Site;
use crate::stack::command_topic;
use crate::stack::secrets::{OPERATOR, Secrets};

/// Unacknowledged commands of one operator.
const WINDOW_MAX: usize = 8;
const ACTIONS: [Action; 2] = [Action::Unlock, Action::Lock];

pub(super) struct Operator {
    /// The same on all its connections: the guard knows by it who sends again.
    client_id: String,
    server: SocketAddr,
    secrets: Secrets,
    ledger: Ledger,
    habits: Habits,
    window: Window<String>,
}

impl Operator {
    pub(super) fn new(site: &Site, ledger: Ledger, habits: Habits) -> anyhow::Result<Self> {
        Ok(Self {
            client_id: format!("{OPERATOR}-{}", random::process_id()?),
            server: site.mqtt,
            secrets: site.secrets.clone(),
            ledger,
            habits,
            window: Window::default(),
        })
    }

    /// Runs until it shall stop and every command was answered.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        loop {
            if let Ok(client) = self.connect().await {
                match self.talk(client).await {
                    Ok(()) => return Ok(()),
                    Err(error) => tracing::debug!(error = format!("{error:#}"), "the operator comes again"),
                }
                self.ledger.disconnected(&self.client_id);
            }
            sleep(CONNECT_AGAIN_AFTER).await;
        }
    }

    async fn connect(&self) -> anyhow::Result<Client> {
        let connect = Connect {
            // An operator is told why a command is refused.
            protocol: Protocol::V5,
            client_id: &self.client_id,
            login: Some((OPERATOR, &self.secrets.operator)),
            clean: false,
            session_expiry_s: 3600,
            keep_alive_s: 60,
        };
        Ok(Client::connect(self.server, &connect).await?.0)
    }

    /// One connection. An error is its end.
    async fn talk(&mut self, mut client: Client) -> anyhow::Result<()> {
        self.window.send_again(&mut client, |process_id| self.ledger.command_sent(process_id)).await?;
        let stop = self.habits.stop.clone();
        let mut command_at = self.habits.next();
        while !(stop.is_cancelled() && self.window.len() == 0) {
            let may_send = self.window.len() < WINDOW_MAX && !stop.is_cancelled();
            // Cancel safety: as with locks.
            tokio::select! {
                packet = client.receive() => self.take(packet?)?,
                () = sleep_until(command_at), if may_send => {
                    self.command(&mut client).await?;
                    command_at = self.habits.next();
                }
                () = stop.cancelled(), if !stop.is_cancelled() => continue,
            }
            if self.habits.breaks() {
                bail!("it breaks the connection, without DISCONNECT");
            }
        }
        client.disconnect().await
    }

    async fn command(&mut self, client: &mut Client) -> anyhow::Result<()> {
        let locks = self.ledger.listeners();
        if locks.is_empty() {
            return Ok(());
        }
        let lock = self.habits.random.choose(&locks);
        let action = *self.habits.random.choose(&ACTIONS);
        let command = Command::sign(&self.secrets.master, lock, action)?;
        self.ledger.command(&command.process_id, lock, command.payload.clone().into());
        self.window.push(command_topic(lock), command.payload.into(), command.process_id);
        self.window.send_last(client, |process_id| self.ledger.command_sent(process_id)).await
    }

    fn take(&mut self, packet: Packet) -> anyhow::Result<()> {
        match packet {
            Packet::Ack { kind: Ack::PubAck, id, code } => match self.window.acked(id) {
                Ok(process_id) if matches!(code, 0 | 0x10) => self.ledger.said(&process_id, Said::Acked),
                // Signed before the broker started, say: whoever still wants it signs another one.
                Ok(process_id) => self.ledger.said(&process_id, Said::Refused(code)),
                Err(error) => self.ledger.broken(format!("{}: {error}", self.client_id)),
            },
            Packet::Disconnect { code } => bail!("DISCONNECT with {code:#04x}"),
            other => self.ledger.broken(format!("{}: {other:?} came unasked", self.client_id)),
        }
        Ok(())
    }
}
