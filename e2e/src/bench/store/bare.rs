//! rdkafka with the bridge's settings and records, and nothing around it: delivery reports are
//! counted, and that is all.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use latchline_bridge::producer::client_config;
use latchline_shared::kit::clock;
use rdkafka::ClientContext;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use tokio::sync::Semaphore;

use crate::bench::store::bridge::{NODE, config};
use crate::bench::store::side::{Order, Storing};
use crate::bench::store::templates::Template;
use crate::stack::STATES;

/// A producer, and records to send again and again.
pub(crate) struct Bare {
    producer: ThreadedProducer<Count>,
    records: Vec<Template>,
    /// How many were sent.
    sent: usize,
    stored: Arc<Semaphore>,
}

/// Delivery reports: a permit for each record that is stored, an end of permits for one that is not.
struct Count(Arc<Semaphore>);

impl ClientContext for Count {}

impl ProducerContext for Count {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => self.0.add_permits(1),
            Err(_) => self.0.close(),
        }
    }
}

impl Bare {
    pub(crate) fn start(order: &Order) -> anyhow::Result<Self> {
        let records = Template::read(&order.templates)?;
        let stored = Arc::new(Semaphore::new(0));
        let client = client_config(&config(&order.kafka)?, NODE)?;
        let producer = client.create_with_context(Count(Arc::clone(&stored)))?;
        Ok(Self { producer, records, sent: 0, stored })
    }
}

impl Storing for Bare {
    /// The next one, which is of the next lock, nearly always.
    fn store(&mut self, _: usize) -> anyhow::Result<()> {
        let record = &self.records[self.sent % self.records.len()];
        self.sent += 1;
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let ready = BaseRecord::to(STATES)
            .key(record.key.as_deref().unwrap_or_default())
            .payload(record.value.as_str())
            .timestamp(clock::unix_ms() as i64)
            .headers(headers);
        self.producer.send(ready).map_err(|(error, _)| anyhow!(error).context("send"))
    }

    async fn stored(&mut self) -> anyhow::Result<()> {
        let permit = self.stored.acquire().await.context("a record is not stored")?;
        permit.forget();
        Ok(())
    }
}
