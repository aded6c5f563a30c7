//! rdkafka with the bridge's settings and records, and nothing around it: delivery reports are
//! counted, and that is all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use latchline_bridge::producer::client_config;
use latchline_shared::kit::clock;
use rdkafka::ClientContext;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use tokio::sync::Semaphore;

use crate::bench::lock;
use crate::bench::store::bridge::{NODE, config};
use crate::bench::store::side::{Order, Storing};
use crate::kafka::reader::{From, Reader, Record};
use crate::stack::STATES;

const READ_DEADLINE: Duration = Duration::from_secs(60);

/// A producer, and a record of each lock to send again and again.
pub(crate) struct Bare {
    producer: ThreadedProducer<Count>,
    records: Vec<Record>,
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
    pub(crate) async fn start(order: &Order) -> anyhow::Result<Self> {
        let records = templates(order).await?;
        let stored = Arc::new(Semaphore::new(0));
        let client = client_config(&config(&order.kafka)?, NODE)?;
        let producer = client.create_with_context(Count(Arc::clone(&stored)))?;
        Ok(Self { producer, records, stored })
    }
}

impl Storing for Bare {
    fn store(&mut self, lock: usize) -> anyhow::Result<()> {
        let record = &self.records[lock];
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let ready = BaseRecord::to(STATES)
            .key(record.key.as_deref().unwrap_or_default())
            .payload(record.value.as_slice())
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

/// A record that the bridge has stored, of each lock.
async fn templates(order: &Order) -> anyhow::Result<Vec<Record>> {
    let mut reader = Reader::open(&order.kafka, &[STATES], From::Beginning).await?;
    let mut found = BTreeMap::new();
    while found.len() < order.locks as usize {
        let record = reader.next(READ_DEADLINE).await?.context("the bridge has not stored enough")?;
        if let Some(key) = record.key.clone() {
            found.insert(key, record);
        }
    }
    let records = (0..order.locks).filter_map(|number| found.remove(&lock::id(number)));
    let records: Vec<Record> = records.collect();
    ensure!(records.len() == order.locks as usize, "records of other locks are among them");
    Ok(records)
}
