//! Fetches the evidence: everything that Kafka has, and what the services have in Postgres.
//!
//! Ordering: first everything comes to rest, from where records come in to where messages go out, so
//! that what is at rest cannot be disturbed by what was looked at before it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, Row};

use crate::checker::evidence::{Event, Evidence, Notification, Offset, Place, State};
use crate::kafka::reader::{From, Reader, Record, ends};
use crate::sink::Messages;
use crate::site::{Api, Site};
use crate::stack::whole::Whole;
use crate::stack::{ALARMS, COMMANDS, FINDINGS, REJECTED, SERVICES, STATES};

/// Longest read of everything that Kafka has.
const READ_DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The broker's metric of records that Kafka has not stored yet.
const PENDING: &str = "broker_bridge_pending_records ";
/// What is compared record by record.
const STREAMS: [&str; 5] = [STATES, COMMANDS, REJECTED, FINDINGS, ALARMS];

/// Waits until everything has come to rest.
pub async fn settle(whole: &Whole, deadline: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + deadline;
    loop {
        let busy = match busy(whole).await {
            Ok(None) => return Ok(()),
            Ok(Some(busy)) => busy,
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() >= until {
            bail!("not at rest after {deadline:?}: {busy}");
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Everything there is. Ask when it is at rest.
pub async fn gather(whole: &Whole) -> anyhow::Result<Evidence> {
    let bootstrap = whole.stack.kafka.bootstrap();
    let ends = ends(&bootstrap, &all_streams()).await?;
    let records = records(&bootstrap, &ends).await?;
    let client = whole.postgres.connect().await?;
    let site = whole.site()?;
    let mut arrivals = BTreeMap::new();
    for page in [&site.mail, &site.sms] {
        arrived(&site, page, &mut arrivals).await?;
    }
    Ok(Evidence {
        records,
        offsets: offsets(&client, &ends).await?,
        ends,
        events: events(&client).await?,
        chains: verify(whole).await?,
        awaited: awaited(&client).await?,
        states: states(&client).await?,
        notifications: notifications(&client).await?,
        arrivals,
    })
}

/// All records of the streams that are compared, each partition to its end.
async fn records(bootstrap: &str, ends: &BTreeMap<Place, i64>) -> anyhow::Result<Vec<Record>> {
    let is_compared = |place: &Place| STREAMS.contains(&place.0.as_str());
    let mut missing: BTreeMap<Place, i64> = ends
        .iter()
        .filter(|(place, end)| is_compared(place) && **end > 0)
        .map(|(p, end)| (p.clone(), *end))
        .collect();
    let mut reader = Reader::open(bootstrap, &STREAMS, From::Beginning).await?;
    let at_ends = |records: &[Record]| {
        if let Some(last) = records.last() {
            let place = (last.stream.clone(), last.partition);
            if missing.get(&place).is_some_and(|end| last.offset + 1 >= *end) {
                missing.remove(&place);
            }
        }
        missing.is_empty()
    };
    reader.read_until(READ_DEADLINE, at_ends).await
}

/// What is not at rest, in the order of the path.
async fn busy(whole: &Whole) -> anyhow::Result<Option<String>> {
    let metrics = whole.site()?.broker.get("/metrics").await?.error_for_status()?.text().await?;
    let pending =
        metrics.lines().find_map(|line| line.strip_prefix(PENDING)).context("no metric of the bridge")?;
    if pending.trim() != "0" {
        return Ok(Some(format!("{pending} records wait in the broker")));
    }
    let client = whole.postgres.connect().await?;
    let bootstrap = whole.stack.kafka.bootstrap();
    for (service, streams) in SERVICES {
        let ends = ends(&bootstrap, streams).await?;
        let offsets = offsets(&client, &ends).await?;
        let is_behind =
            |offset: &&Offset| offset.service == service && Some(&offset.next) != ends.get(&offset.place);
        if let Some(behind) = offsets.iter().find(is_behind) {
            return Ok(Some(format!("{behind:?}")));
        }
        let waiting = match service {
            "notifier" => {
                "select count(*) from notifier.notification where status in ('pending', 'sending')".to_owned()
            }
            _ => format!("select count(*) from {service}.outbox where refused_at is null"),
        };
        let count: i64 = client.query_one(&waiting, &[]).await?.get(0);
        if count > 0 {
            return Ok(Some(format!("{count} messages wait in the {service}")));
        }
    }
    Ok(None)
}

/// How far each service has read those of its streams whose ends are known.
async fn offsets(client: &Client, ends: &BTreeMap<Place, i64>) -> anyhow::Result<Vec<Offset>> {
    let mut offsets = Vec::new();
    for (service, streams) in SERVICES {
        let query = format!("select stream, partition, next_offset from {service}.consumer_offset");
        let read: BTreeMap<Place, i64> = client
            .query(&query, &[])
            .await?
            .iter()
            .map(|row| ((row.get(0), row.get(1)), row.get(2)))
            .collect();
        for place in ends.keys().filter(|(stream, _)| streams.contains(&stream.as_str())) {
            let next = read.get(place).copied().unwrap_or(0);
            offsets.push(Offset { service, place: place.clone(), next });
        }
    }
    Ok(offsets)
}

async fn events(client: &Client) -> anyhow::Result<Vec<Event>> {
    // The chain 32767 is of what nobody on the wire did.
    let query =
        "select kind, client_id, coalesce(process_id, ''), verdict, findings, k_topic, k_partition, k_offset,
            chain_id, seq
        from auditor.event where chain_id <> 32767 order by chain_id, seq";
    let event = |row: &Row| Event {
        kind: row.get(0),
        lock: row.get(1),
        process_id: row.get(2),
        verdict: row.get(3),
        findings: row.get(4),
        place: (row.get(5), row.get(6)),
        offset: row.get(7),
        row: (row.get(8), row.get(9)),
    };
    Ok(client.query(query, &[]).await?.iter().map(event).collect())
}

async fn awaited(client: &Client) -> anyhow::Result<Vec<(String, String)>> {
    let query = "select client_id, process_id from auditor.process where deadline_at is not null";
    Ok(client.query(query, &[]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
}

async fn states(client: &Client) -> anyhow::Result<BTreeMap<String, State>> {
    let query = "select client_id, last_offset, lock_state_raw, battery from monitor.lock_current";
    let state = |row: &Row| {
        (row.get(0), State { last_offset: row.get(1), lock_state: row.get(2), battery: row.get(3) })
    };
    Ok(client.query(query, &[]).await?.iter().map(state).collect())
}

async fn notifications(client: &Client) -> anyhow::Result<Vec<Notification>> {
    let query =
        "select id::text, event_type, channel, client_id, coalesce(process_id, ''), status, ambiguous,
            alarm_id::text, alarm_no
        from notifier.notification";
    let notification = |row: &Row| {
        Ok(Notification {
            id: row.get(0),
            event_type: row.get(1),
            channel: row.get(2),
            lock: row.get(3),
            process_id: row.get(4),
            status: row.get(5),
            ambiguous: u32::try_from(row.get::<_, i32>(6))?,
            alarm: row.get::<_, Option<String>>(7).zip(row.get(8)),
        })
    };
    client.query(query, &[]).await?.iter().map(notification).collect()
}

async fn arrived(site: &Site, page: &Api, arrivals: &mut BTreeMap<String, u32>) -> anyhow::Result<()> {
    let Messages { count, messages } = site.arrived(page).await?;
    let kept = messages.len();
    ensure!(u64::try_from(kept)? == count, "{kept} messages of {count} are kept at {}", page.url);
    for message in messages {
        *arrivals.entry(message.id).or_default() += 1;
    }
    Ok(())
}

/// What the auditor's own check of its history finds.
async fn verify(whole: &Whole) -> anyhow::Result<Option<String>> {
    let mut command = whole.audit.auditor.command()?;
    let verified = tokio::task::spawn_blocking(move || command.arg("verify").output()).await?;
    let verified = verified.context("latchline-auditor verify")?;
    Ok((!verified.status.success()).then(|| String::from_utf8_lossy(&verified.stdout).trim().to_owned()))
}

/// All streams that are looked at, dead letters included.
fn all_streams() -> Vec<String> {
    let dead = SERVICES
        .iter()
        .flat_map(|(service, streams)| streams.iter().map(move |stream| format!("{stream}.{service}.dlq")));
    STREAMS.iter().map(|stream| (*stream).to_owned()).chain(dead).collect()
}
