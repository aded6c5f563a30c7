//! What the parts of the system take: CPU time and memory of each, and what Postgres does for whom.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use tokio_postgres::Client;

use super::sample::Sample;
use super::scene::Scene;
use crate::bench::meter::family_memory_bytes;
use crate::process::{cpu_time, family_cpu_time};
use crate::stack::SERVICES;

/// The parts. The last is the benchmark itself: probes, what looks, mail server and SMS gateway, and
/// the development Kafka where that is used.
pub(super) const PARTS: [&str; 7] = ["broker", "kafka", "postgres", "auditor", "monitor", "notifier", "load"];
const BROKER: usize = 0;
const POSTGRES: usize = 2;
const FIRST_SERVICE: usize = 3;
const LOAD: usize = 6;

/// What a part took in the window.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// Which.
    pub name: String,
    /// Processors that it kept busy.
    pub cores: f64,
    /// CPU time of a report: one that was acknowledged, or of a service one that it applied.
    pub us_each: f64,
    /// The most that it had in memory; none for what Postgres does for somebody.
    pub memory_bytes_max: Option<u64>,
}

/// Ids of the processes.
pub(super) struct Processes([Option<u32>; PARTS.len()]);

impl Processes {
    pub(super) fn of(scene: &Scene) -> anyhow::Result<Self> {
        let whole = &scene.whole;
        Ok(Self([
            Some(whole.stack.broker.process()?.id()),
            whole.stack.kafka.process_id(),
            Some(whole.postgres.process_id()?),
            Some(whole.audit.auditor.process()?.id()),
            Some(whole.monitor.monitor.process()?.id()),
            Some(whole.notifier.notifier.process()?.id()),
            Some(std::process::id()),
        ]))
    }

    /// CPU time so far. The benchmark has children, which are the others.
    pub(super) fn cpu_s(&self) -> anyhow::Result<[f64; PARTS.len()]> {
        let mut all = [0.0; PARTS.len()];
        for (number, (all, id)) in all.iter_mut().zip(&self.0).enumerate() {
            let Some(id) = *id else { continue };
            let used = if number == POSTGRES { family_cpu_time(id)? } else { cpu_time(id)? };
            *all = used.as_secs_f64();
        }
        Ok(all)
    }

    /// Memory in use.
    pub(super) fn memory_bytes(&self) -> anyhow::Result<[u64; PARTS.len()]> {
        let mut all = [0; PARTS.len()];
        for (number, (all, id)) in all.iter_mut().zip(&self.0).enumerate() {
            if let Some(id) = id.filter(|_| number != LOAD) {
                *all = family_memory_bytes(id)?;
            }
        }
        Ok(all)
    }
}

/// What was used in the window.
pub(super) struct Window {
    processes: Processes,
    client: Client,
    before: [f64; PARTS.len()],
    after: [f64; PARTS.len()],
    backends_before: HashMap<i32, (usize, Duration)>,
    backends_after: HashMap<i32, (usize, Duration)>,
    clients_cpu_s: f64,
}

impl Window {
    /// It begins.
    pub(super) async fn begin(scene: &Scene) -> anyhow::Result<Self> {
        let (processes, client) = (Processes::of(scene)?, scene.client().await?);
        let (before, backends_before) = (processes.cpu_s()?, backends(&client).await?);
        Ok(Self {
            processes,
            client,
            before,
            after: before,
            backends_before,
            backends_after: HashMap::new(),
            clients_cpu_s: 0.0,
        })
    }

    /// It ends; the clients in the broker's process have used so much.
    pub(super) async fn end(&mut self, clients_cpu_s: f64) -> anyhow::Result<()> {
        self.after = self.processes.cpu_s()?;
        self.backends_after = backends(&self.client).await?;
        self.clients_cpu_s = clients_cpu_s;
        Ok(())
    }

    /// What each part took, and what Postgres did for each service.
    pub(super) fn sum_up(&self, samples: &[Sample], acked: u64, seconds: f64) -> Vec<Part> {
        let window: Vec<&Sample> = samples.iter().filter(|sample| sample.at_s <= seconds).collect();
        let applied = |service: usize| match (window.first(), window.last()) {
            (Some(first), Some(last)) => last.applied[service] - first.applied[service],
            _ => 0,
        };
        let part = |name: &str, cpu_s: f64, count: u64, memory_bytes_max| Part {
            name: name.to_owned(),
            cores: cpu_s / seconds,
            us_each: cpu_s * 1e6 / count.max(1) as f64,
            memory_bytes_max,
        };
        let mut parts = Vec::new();
        for (number, name) in PARTS.iter().enumerate() {
            let used_s = self.after[number] - self.before[number];
            let cpu_s = match number {
                BROKER => used_s - self.clients_cpu_s,
                LOAD => used_s + self.clients_cpu_s,
                _ => used_s,
            };
            let is_service = (FIRST_SERVICE..LOAD).contains(&number);
            let count = if is_service { applied(number - FIRST_SERVICE) } else { acked };
            let memory = samples.iter().map(|sample| sample.memory_bytes[number]).max();
            parts.push(part(name, cpu_s, count, memory.filter(|bytes| *bytes > 0)));
            if number == POSTGRES {
                for (service, (name, _)) in SERVICES.iter().enumerate() {
                    let name = format!("  of it for the {name}");
                    parts.push(part(&name, self.backends_cpu_s(service), applied(service), None));
                }
            }
        }
        parts
    }

    fn backends_cpu_s(&self, service: usize) -> f64 {
        let used =
            self.backends_after.iter().filter(|(_, (of, _))| *of == service).map(|(id, (_, after))| {
                let before = self.backends_before.get(id).map_or(Duration::ZERO, |(_, before)| *before);
                after.saturating_sub(before)
            });
        used.sum::<Duration>().as_secs_f64()
    }
}

/// CPU time of each process of Postgres that works for a service.
async fn backends(client: &Client) -> anyhow::Result<HashMap<i32, (usize, Duration)>> {
    let query = "select pid, application_name from pg_stat_activity where backend_type = 'client backend'";
    let mut backends = HashMap::new();
    for row in client.query(query, &[]).await? {
        let (id, application): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
        let service = SERVICES.iter().position(|(name, _)| application.contains(name));
        // One may have ended meanwhile.
        if let (Some(service), Ok(used)) = (service, cpu_time(id.unsigned_abs())) {
            backends.insert(id, (service, used));
        }
    }
    Ok(backends)
}
