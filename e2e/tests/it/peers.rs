//! The comparisons, small: that each side is measured, that nothing is lost, and that what is not
//! there is said not to be measured. Nothing here depends on how fast the machine is.

use latchline_e2e::bench::cost::Loop;
use latchline_e2e::bench::peers::{self, Plan};
use latchline_e2e::bench::store::{self, side::Side};
use latchline_e2e::bench::target::{Kind, Surroundings};
use latchline_e2e::kafka::{Choice, Kafka};

const ALL: [Kind; 5] = [Kind::Bridge, Kind::Alone, Kind::Mosquitto, Kind::Rumqttd, Kind::Echo];

#[tokio::test]
async fn peers_are_measured_or_said_not_to_be() {
    let kafka = Kafka::start(Choice::Development).await.unwrap();
    let surroundings = Surroundings::new(&kafka).await.unwrap();
    let plan = Plan::small();
    let peers = peers::measure(kafka.choice().name(), &surroundings, plan.clone(), |_| {}).await.unwrap();
    peers.check().unwrap();
    let table = peers.to_string();

    let absent: Vec<Kind> = peers.absent.iter().map(|absent| absent.kind).collect();
    for kind in ALL {
        let is_here = !absent.contains(&kind);
        let said = table.contains(&format!("NOT MEASURED: {}, not ", kind.name()));
        assert_eq!(said, !is_here, "{kind:?}\n{table}");
        let count = if is_here { plan.idle_connections.len() } else { 0 };
        assert_eq!(peers.idle.iter().filter(|idle| idle.kind == kind).count(), count, "{kind:?}\n{table}");
        for (costs, rounds) in [(&peers.cost, plan.turns.rounds), (&peers.many, plan.turns_many.rounds)] {
            let closed = costs.iter().filter(|cost| (cost.kind, cost.load) == (kind, Loop::Closed));
            let closed: Vec<_> = closed.collect();
            assert_eq!(closed.len(), usize::from(is_here), "{kind:?}\n{table}");
            for cost in closed {
                assert_eq!(cost.samples_per_second.len(), rounds as usize, "{cost:?}");
                assert!(cost.per_second.low > 0.0, "{cost:?}");
            }
        }
        let is_received = peers.received.iter().any(|received| received.kind == kind);
        assert_eq!(is_received, is_here && kind != Kind::Echo, "{kind:?}\n{table}");
    }
    assert!(!absent.contains(&Kind::Bridge) && !absent.contains(&Kind::Alone), "{table}");
    let open = peers.cost.iter().filter(|cost| cost.load == Loop::Open && cost.kind.is_ours());
    assert_eq!(open.count(), 2, "ours takes the fixed rate\n{table}");
    assert!(peers.many.iter().all(|cost| cost.load == Loop::Closed), "{table}");
}

#[tokio::test]
async fn a_subscriber_gets_all_that_was_acknowledged() {
    let kafka = Kafka::start(Choice::Development).await.unwrap();
    let surroundings = Surroundings::new(&kafka).await.unwrap();
    let plan = peers::subscriber::Plan { rounds: 1, locks: 20, each: 300 };
    let kinds = [Kind::Bridge, Kind::Alone];
    let received = peers::subscriber::measure(&kinds, &surroundings, &plan).await.unwrap();
    assert_eq!(received.iter().map(|received| received.kind).collect::<Vec<_>>(), kinds);
    for received in received {
        assert_eq!((received.acknowledged, received.lost_max), (6_000, 0), "{received:?}");
        assert_eq!((received.duplicates, received.disordered), (0, 0), "{received:?}");
        assert_eq!(received.received.low, 6_000.0, "{received:?}");
    }
}

#[tokio::test]
async fn bridge_and_bare_producer_store_the_same() {
    let kafka = Kafka::start(Choice::Development).await.unwrap();
    let plan = store::Plan::small();
    let store = store::measure(&kafka, plan.clone()).await.unwrap();
    let rows: Vec<_> = store.costs.iter().map(|cost| (cost.side, cost.load)).collect();
    let expected = ["closed loop", "fixed rate"].map(|load| [(Side::Bridge, load), (Side::Bare, load)]);
    assert_eq!(rows, expected.concat());
    for cost in &store.costs {
        assert_eq!(cost.samples_cpu_us.len(), plan.rounds as usize, "{cost:?}");
        assert!(cost.per_second.low > 0.0, "{cost:?}");
        let is_closed = cost.load == "closed loop";
        assert!(is_closed || cost.per_second.high <= f64::from(plan.rate_per_second) * 1.1, "{cost:?}");
    }
    assert_eq!(store.ratios.len(), 2, "{store}");
}
