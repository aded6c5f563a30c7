//! The bridge as the broker has it: one hook, called for each message of some locks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use latchline_bridge::Bridge;
use latchline_bridge::config::Config;
use latchline_broker::config::DEFAULT_TOML;
use latchline_broker::settings::Settings;
use latchline_shared::hook::{Hook, PublishAnswer};
use latchline_shared::kit::config::{Problems, load};
use latchline_shared::message::{Client, Message, MessageId, Protocol, Qos};
use latchline_shared::receipt::Receipt;
use prometheus_client::registry::Registry;

use crate::bench::lock;
use crate::bench::publishers::payload;
use crate::bench::store::side::{Order, Storing};
use crate::stack::state_topic;

/// Name of the node in the records.
pub(crate) const NODE: &str = "latchline@bench";
const PREFIX: &str = "LATCHLINE_BROKER";

/// The bridge's settings as they are by default, with this Kafka.
pub(crate) fn config(kafka: &str) -> Result<Config, Problems> {
    let servers = (format!("{PREFIX}__BRIDGE__KAFKA__SERVERS"), kafka.to_owned());
    let settings: Settings<Config> = load(DEFAULT_TOML, None, PREFIX, [servers].into_iter())?;
    Ok(settings.bridge)
}

/// A bridge, and the locks whose messages it is given.
pub(crate) struct Hooked {
    bridge: Arc<Bridge>,
    locks: Vec<(Client, String)>,
    /// Of the records that are under way, the oldest first.
    receipts: VecDeque<Receipt>,
    messages: u128,
}

impl Hooked {
    pub(crate) async fn start(order: &Order) -> anyhow::Result<Self> {
        let config = config(&order.kafka)?;
        let bridge = Bridge::start(&config, NODE, &mut Registry::default()).await.context("bridge")?;
        let locks = (0..order.locks).map(|number| {
            let client = client(number);
            let topic = state_topic(&client.id);
            (client, topic)
        });
        Ok(Self { bridge, locks: locks.collect(), receipts: VecDeque::new(), messages: 0 })
    }
}

impl Storing for Hooked {
    fn store(&mut self, lock: usize) -> anyhow::Result<()> {
        self.messages += 1;
        let (client, topic) = &self.locks[lock];
        let message = Message {
            mid: MessageId(self.messages),
            from: client.id.clone(),
            topic: topic.as_str().into(),
            payload: payload(),
            qos: Qos::AtLeastOnce,
            retain: false,
            dup: false,
            packet_id: Some(1),
            properties: None,
            received_at: Instant::now(),
            expiry: None,
        };
        match self.bridge.message_publish(client, &message) {
            PublishAnswer::Accept(receipt) => self.receipts.push_back(receipt),
            PublishAnswer::Reject(..) | PublishAnswer::Absorb(_) => bail!("the bridge does not accept"),
        }
        Ok(())
    }

    async fn stored(&mut self) -> anyhow::Result<()> {
        let receipt = self.receipts.pop_front().context("nothing is under way")?;
        receipt.await.context("a record is not stored")
    }
}

fn client(number: u32) -> Client {
    let id = lock::id(number);
    Client {
        username: id.as_str().into(),
        id: id.into(),
        role: "lock".into(),
        protocol: Protocol::V3,
        peer: ([127, 0, 0, 1], 50_000).into(),
        session: 1,
        sequence: Default::default(),
    }
}
