//! Reports that are followed from the lock to what people see of them.
//!
//! Some locks come through sockets, and report when it is their turn, whatever became of what they
//! reported before; every delay counts from when its report was due. Half of them answer commands: each
//! answer becomes history and a notification. The others jam, and are freed half a round later: each
//! jam becomes an alarm in its stream, and the alarm a notification.
//!
//! Rows are looked for ten times a second, those that are long overdue less often, so that a long lag
//! is not made longer by looking.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use latchline_shared::alarm::{AlarmRecord, AlarmType, Change};
use latchline_shared::keys::MasterKey;
use latchline_shared::message::Protocol;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_postgres::Client as Postgres;

use super::Plan;
use super::scene::Scene;
use crate::bench::figures::Delays;
use crate::bench::lock::KEEP_ALIVE_S;
use crate::bench::publishers::long_delays;
use crate::client::Client;
use crate::client::packet::Connect;
use crate::feed::Report;
use crate::kafka::reader::{From, Reader};
use crate::load::tally::held;
use crate::random;
use crate::stack::{ALARMS, state_topic};

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What is overdue for so long is looked for every `1 / PATIENCE` of it.
const PATIENCE: f64 = 20.0;
const ACK_DEADLINE: Duration = Duration::from_secs(120);
const FAULT: i64 = 2;

const HISTORY: &str = "select process_id from auditor.event
    where process_id = any($1) and kind = 'result' and occurred_at > now() - interval '1 day'";
const NOTICES: &str = "select process_id from notifier.notification where process_id = any($1)
    union all select alarm_id::text || '/' || alarm_no from notifier.notification
    where alarm_id = any(select split_part(name, '/', 1)::uuid from unnest($1) as name where name like '%/%')";

/// Where a report ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Chain {
    /// A jam, in the stream of alarms.
    Alarm,
    /// An answer, in the auditor's history.
    History,
    /// An answer, as a notification.
    Notice,
    /// A jam, as a notification of its alarm.
    AlarmNotice,
}

impl Chain {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Alarm, Self::History, Self::Notice, Self::AlarmNotice];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alarm => "jam to alarm in its stream",
            Self::History => "result to history",
            Self::Notice => "result to notification",
            Self::AlarmNotice => "jam to notification",
        }
    }
}

/// A report that is followed.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Probe {
    /// Where to.
    pub chain: Chain,
    /// When it was due, in seconds of the window.
    pub due_s: f64,
    /// How long it took; none if it has not arrived.
    pub after_s: Option<f64>,
}

/// How long it took.
#[derive(Debug, Clone, Serialize)]
pub struct Timed {
    /// Where to.
    pub chain: Chain,
    /// Of those that arrived.
    pub delays: Delays,
    /// How many did not.
    pub missing: usize,
}

impl Timed {
    /// Of all reports that were followed to there.
    pub(super) fn of(chain: Chain, probes: &[Probe]) -> anyhow::Result<Self> {
        let of_chain = || probes.iter().filter(move |probe| probe.chain == chain);
        let mut delays_us = long_delays()?;
        for after_s in of_chain().filter_map(|probe| probe.after_s) {
            delays_us.saturating_record((after_s * 1e6) as u64);
        }
        let missing = of_chain().filter(|probe| probe.after_s.is_none()).count();
        Ok(Self { chain, delays: Delays::of(&delays_us), missing })
    }
}

/// What is under way, and what has arrived.
#[derive(Clone)]
pub(super) struct Book(Arc<Mutex<Pages>>);

struct Pages {
    begun_at: Instant,
    probes: Vec<Probe>,
    /// Jams, by lock, in their order.
    jams: HashMap<String, VecDeque<usize>>,
    /// Rows by chain and name: which report, and when to look for it.
    rows: HashMap<(Chain, String), (usize, Instant)>,
}

impl Book {
    pub(super) fn open() -> Self {
        Self(Arc::new(Mutex::new(Pages {
            begun_at: Instant::now(),
            probes: Vec::new(),
            jams: HashMap::new(),
            rows: HashMap::new(),
        })))
    }

    /// The window begins now.
    pub(super) fn begin(&self) {
        held(&self.0).begun_at = Instant::now();
    }

    /// Whether everything has arrived.
    pub(super) fn is_complete(&self) -> bool {
        let pages = held(&self.0);
        pages.rows.is_empty() && pages.jams.values().all(VecDeque::is_empty)
    }

    pub(super) fn into_probes(self) -> Vec<Probe> {
        std::mem::take(&mut held(&self.0).probes)
    }

    fn begun_at(&self) -> Instant {
        held(&self.0).begun_at
    }

    /// An answer is due.
    fn answers(&self, process_id: &str, due: Instant) {
        let mut pages = held(&self.0);
        for chain in [Chain::History, Chain::Notice] {
            let number = pages.probe(chain, due);
            pages.rows.insert((chain, process_id.to_owned()), (number, due));
        }
    }

    /// A lock jams.
    fn jams(&self, lock: &str, due: Instant) {
        let mut pages = held(&self.0);
        let number = pages.probe(Chain::Alarm, due);
        pages.jams.entry(lock.to_owned()).or_default().push_back(number);
    }

    /// A change of an alarm is in its stream. Those of a lock are in its order.
    fn alarmed(&self, alarm: &AlarmRecord) {
        let (mut pages, now) = (held(&self.0), Instant::now());
        let is_jam = alarm.alarm_type == AlarmType::LockFault
            && matches!(alarm.change, Change::Raised | Change::Repeated);
        let Some(number) =
            pages.jams.get_mut(&alarm.client_id).filter(|_| is_jam).and_then(VecDeque::pop_front)
        else {
            return;
        };
        pages.arrived(number, now);
        if alarm.notify {
            let due_s = pages.probes[number].due_s;
            pages.probes.push(Probe { chain: Chain::AlarmNotice, due_s, after_s: None });
            let number = pages.probes.len() - 1;
            let name = format!("{}/{}", alarm.alarm_id, alarm.no);
            pages.rows.insert((Chain::AlarmNotice, name), (number, now));
        }
    }

    /// Names of rows of these chains that it is time to look for.
    fn wanted(&self, chains: &[Chain]) -> Vec<String> {
        let (mut pages, now) = (held(&self.0), Instant::now());
        let Pages { begun_at, probes, rows, .. } = &mut *pages;
        let mut names = Vec::new();
        for ((chain, name), (number, look_at)) in rows.iter_mut() {
            if chains.contains(chain) && *look_at <= now {
                let due = *begun_at + Duration::from_secs_f64(probes[*number].due_s);
                *look_at = now + now.saturating_duration_since(due).div_f64(PATIENCE);
                names.push(name.clone());
            }
        }
        names
    }

    /// Rows of these chains are there.
    fn seen(&self, chains: &[Chain], names: Vec<String>) {
        let (mut pages, now) = (held(&self.0), Instant::now());
        for name in names {
            for chain in chains {
                if let Some((number, _)) = pages.rows.remove(&(*chain, name.clone())) {
                    pages.arrived(number, now);
                }
            }
        }
    }
}

impl Pages {
    fn probe(&mut self, chain: Chain, due: Instant) -> usize {
        let due_s = due.saturating_duration_since(self.begun_at).as_secs_f64();
        self.probes.push(Probe { chain, due_s, after_s: None });
        self.probes.len() - 1
    }

    fn arrived(&mut self, number: usize, now: Instant) {
        let at_s = now.saturating_duration_since(self.begun_at).as_secs_f64();
        let probe = &mut self.probes[number];
        probe.after_s = Some((at_s - probe.due_s).max(0.0));
    }
}

/// Looks what has arrived.
pub(super) struct Follow {
    book: Book,
    alarms: Mutex<Option<Reader>>,
    postgres: Postgres,
}

impl Follow {
    /// From now on.
    pub(super) async fn begin(scene: &Scene, book: &Book) -> anyhow::Result<Self> {
        let bootstrap = scene.whole.stack.kafka.bootstrap();
        let alarms = Mutex::new(Some(Reader::open(&bootstrap, &[ALARMS], From::End).await?));
        Ok(Self { book: book.clone(), alarms, postgres: scene.client().await? })
    }

    /// Until it fails.
    pub(super) async fn run(&self) -> anyhow::Error {
        let failed = tokio::select! {
            failed = self.follow_alarms() => failed,
            failed = self.follow_rows() => failed,
        };
        failed.err().unwrap_or_else(|| anyhow::anyhow!("nobody looks what has arrived"))
    }

    async fn follow_alarms(&self) -> anyhow::Result<()> {
        let mut alarms = held(&self.alarms).take().context("the alarms are followed already")?;
        loop {
            if let Some(record) = alarms.next(LOOK_EVERY).await? {
                let alarm = serde_json::from_slice(&record.value).context("a record of an alarm")?;
                self.book.alarmed(&alarm);
            }
        }
    }

    async fn follow_rows(&self) -> anyhow::Result<()> {
        loop {
            for (query, chains) in
                [(HISTORY, &[Chain::History][..]), (NOTICES, &[Chain::Notice, Chain::AlarmNotice])]
            {
                let wanted = self.book.wanted(chains);
                if !wanted.is_empty() {
                    let rows = self.postgres.query(query, &[&wanted]).await.context("look for rows")?;
                    self.book.seen(chains, rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?);
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

/// What a lock does when it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Answer,
    Jam,
    Free,
}

/// Who does what, and how many seconds after the beginning: answers and jams by turns.
fn script(plan: &Plan) -> Vec<Vec<(f64, Deed)>> {
    let locks = plan.probe_locks as usize;
    let mut scripts = vec![Vec::new(); 2 * locks];
    let count = (plan.window.as_secs_f64() * plan.probes_per_second) as usize;
    for number in 0..count {
        let (due_s, turn) = (number as f64 / plan.probes_per_second, number / 2);
        if number % 2 == 0 {
            scripts[turn % locks].push((due_s, Deed::Answer));
        } else {
            scripts[locks + turn % locks].push((due_s, Deed::Jam));
            let other = &mut scripts[locks + (turn + locks / 2) % locks];
            if !other.is_empty() {
                other.push((due_s, Deed::Free));
            }
        }
    }
    scripts
}

/// The locks that are followed, connected.
pub(super) struct Crew {
    locks: Vec<(String, Client)>,
    scripts: Vec<Vec<(f64, Deed)>>,
    run: String,
}

impl Crew {
    pub(super) async fn connect(scene: &Scene, plan: &Plan) -> anyhow::Result<Self> {
        let mut locks = Vec::new();
        let stack = &scene.whole.stack;
        let master: &MasterKey = &stack.secrets.master;
        for id in &scene.probe_ids {
            let password = master.mqtt_password(id);
            let connect = Connect {
                protocol: Protocol::V3,
                client_id: id,
                login: Some((id, &password)),
                clean: true,
                session_expiry_s: 0,
                keep_alive_s: KEEP_ALIVE_S,
            };
            let (mut client, _) = Client::connect(stack.mqtt(), &connect).await?;
            // It becomes known, as all others have.
            let id_of_packet = client.publish(&state_topic(id), Report::of(id, 0).payload()).await?;
            client.acked(id_of_packet, ACK_DEADLINE).await?;
            locks.push((id.clone(), client));
        }
        Ok(Self { locks, scripts: script(plan), run: random::process_id()? })
    }

    /// Sends all of them when they are due; the answer is how many were acknowledged.
    pub(super) async fn send(self, book: &Book) -> anyhow::Result<u64> {
        let mut locks = JoinSet::new();
        let begun_at = book.begun_at();
        for (number, ((id, client), script)) in self.locks.into_iter().zip(self.scripts).enumerate() {
            let run = format!("{}-{number}", self.run);
            locks.spawn(play(id, client, script, book.clone(), (begun_at, run)));
        }
        let mut acked = 0;
        while let Some(lock) = locks.join_next().await {
            acked += lock.context("a lock died")??;
        }
        Ok(acked)
    }
}

async fn play(
    id: String,
    mut client: Client,
    script: Vec<(f64, Deed)>,
    book: Book,
    (begun_at, run): (Instant, String),
) -> anyhow::Result<u64> {
    let mut acked = 0;
    for (due_s, deed) in script {
        let due = begun_at + Duration::from_secs_f64(due_s);
        sleep_until(due).await;
        let process_id = format!("{run}-{acked}");
        let report = Report::of(&id, 0);
        let report = match deed {
            Deed::Answer => {
                book.answers(&process_id, due);
                Report { process_id: &process_id, action: "unlock", lock_state: 1, ..report }
            }
            Deed::Jam => {
                book.jams(&id, due);
                Report { lock_state: FAULT, ..report }
            }
            Deed::Free => report,
        };
        let packet_id = client.publish(&state_topic(&id), report.payload()).await?;
        client.acked(packet_id, ACK_DEADLINE).await.with_context(|| format!("lock {id}"))?;
        acked += 1;
    }
    Ok(acked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_jam_is_freed_before_the_next_one_of_its_lock() {
        let plan = Plan { window: Duration::from_secs(100), ..Plan::small() };
        let scripts = script(&plan);
        assert_eq!(scripts.len(), 8);
        let all = || scripts.iter().flatten().map(|(_, deed)| *deed);
        let count = |deed| all().filter(|one| *one == deed).count();
        assert_eq!((count(Deed::Answer), count(Deed::Jam)), (250, 250));
        for script in &scripts {
            assert!(script.is_sorted_by(|(one, _), (next, _)| one < next));
            for pair in script.windows(2) {
                assert!(pair[0].1 == Deed::Answer || pair[0].1 != pair[1].1, "{pair:?}");
            }
        }
    }

    #[test]
    fn what_arrives_is_timed_from_when_it_was_due() {
        let book = Book::open();
        let due = book.begun_at();
        book.answers("p", due);
        assert!(!book.is_complete());
        assert_eq!(book.wanted(&[Chain::History]), ["p"]);
        book.seen(&[Chain::History], vec!["p".to_owned(), "other".to_owned()]);
        assert!(!book.is_complete());
        book.seen(&[Chain::Notice, Chain::AlarmNotice], vec!["p".to_owned()]);
        assert!(book.is_complete());
        let probes = book.into_probes();
        assert!(probes.iter().all(|probe| probe.after_s.is_some_and(|after_s| after_s < 60.0)));
        let timed = Timed::of(Chain::Notice, &probes).unwrap();
        assert_eq!((timed.delays.count, timed.missing), (1, 0));
    }
}
