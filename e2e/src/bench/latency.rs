//! How long a PUBACK takes at a fixed rate, from when its message was due to when it was read.

use latchline_shared::keys::MasterKey;
use serde::Serialize;

use crate::bench::fleet::{Close, Fleet, Order};
use crate::bench::lock::Session;
use crate::bench::plan::Plan;
use crate::bench::publishers::Publishers;
use crate::bench::sample::{Measuring, Paced};
use crate::bench::target::{Kind, Surroundings, Target, mosquitto};

/// Delays of one broker.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// Which broker.
    pub kind: Kind,
    /// How many locks are connected, publishers included.
    pub locks: u32,
    /// The rate, and the delays from due to acknowledged.
    #[serde(flatten)]
    pub paced: Paced,
}

/// Measures our broker with and without its bridge, and mosquitto where it is installed.
pub async fn measure(surroundings: &Surroundings, plan: &Plan) -> anyhow::Result<Vec<Latency>> {
    let mut measured = Vec::new();
    for kind in [Kind::Bridge, Kind::Alone].into_iter().chain(mosquitto().map(|_| Kind::Mosquitto)) {
        measured.push(one(kind, surroundings, plan).await?);
    }
    Ok(measured)
}

async fn one(kind: Kind, surroundings: &Surroundings, plan: &Plan) -> anyhow::Result<Latency> {
    let target = Target::start(kind, surroundings).await?;
    let (server, first, locks) = (target.address(), plan.publishers, plan.latency_locks);
    let count = locks.saturating_sub(first);
    let order = Order { server, first, count, session: Session::Kept, close: Close::Rst };
    let _idle = Fleet::connect(order, &surroundings.master_hex).await?;
    let master = MasterKey::from_hex(&surroundings.master_hex)?;
    let publishers = Publishers::connect(server, &master, 0, first).await?;
    let measuring = Measuring {
        process: target.process()?,
        publishers: &publishers,
        turn: 0,
        warm_up: plan.warm_up,
        window: plan.latency_window,
    };
    let paced = measuring.open(plan.rate_per_second.into()).await?;
    drop(publishers);
    target.finish()?;
    Ok(Latency { kind, locks, paced })
}
