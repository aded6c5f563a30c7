//! The locks whose reports are followed: who does what when, and that it is acknowledged.

use std::time::Duration;

use anyhow::{Context, bail};
use latchline_shared::keys::MasterKey;
use latchline_shared::message::Protocol;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::book::Book;
use crate::bench::lock::KEEP_ALIVE_S;
use crate::bench::pipeline::Plan;
use crate::bench::pipeline::scene::Scene;
use crate::client::Client;
use crate::client::packet::{Ack, Connect, Packet};
use crate::feed::Report;
use crate::random;
use crate::stack::state_topic;

const ACK_DEADLINE: Duration = Duration::from_secs(120);
const FAULT: i64 = 2;

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
pub(in crate::bench::pipeline) struct Crew {
    locks: Vec<(String, Client)>,
    scripts: Vec<Vec<(f64, Deed)>>,
    run: String,
}

impl Crew {
    pub(in crate::bench::pipeline) async fn connect(scene: &Scene, plan: &Plan) -> anyhow::Result<Self> {
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
    pub(in crate::bench::pipeline) async fn send(self, book: &Book) -> anyhow::Result<u64> {
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
    let (mut sent, mut acked) = (0, 0);
    for (due_s, deed) in script {
        let due = begun_at + Duration::from_secs_f64(due_s);
        // Whether what was sent before is acknowledged delays nothing.
        while let Ok(answer) = timeout_at(due, client.receive()).await {
            acked += ack(answer, &id)?;
        }
        let process_id = format!("{run}-{sent}");
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
        client.publish(&state_topic(&id), report.payload()).await?;
        sent += 1;
    }
    let until = Instant::now() + ACK_DEADLINE;
    while acked < sent {
        let answer = timeout_at(until, client.receive()).await;
        acked += ack(answer.with_context(|| format!("lock {id}: {acked} of {sent} are acknowledged"))?, &id)?;
    }
    Ok(acked)
}

/// One acknowledgement; anything else is an error.
fn ack(answer: anyhow::Result<Packet>, id: &str) -> anyhow::Result<u64> {
    match answer.with_context(|| format!("lock {id}"))? {
        Packet::Ack { kind: Ack::PubAck, code: 0 | 0x10, .. } => Ok(1),
        other => bail!("lock {id}: {other:?}, not a PUBACK"),
    }
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
}
