//! `bench pipeline`, small, on the development Kafka: that everything is counted at both ends, timed from
//! end to end and drawn. Nothing here depends on how fast the machine is.

use latchline_e2e::bench::pipeline::{self, Plan};
use latchline_e2e::bench::scale::crowd::reports::Reports;
use latchline_e2e::kafka::Choice;

#[tokio::test]
async fn everything_arrives_and_is_timed() {
    for reports in [Reports::Heartbeat, Reports::Repeat] {
        let plan = Plan { reports, ..Plan::small() };
        let due = (plan.per_second * plan.window.as_secs_f64()) as u64;
        let probes = (plan.probes_per_second * plan.window.as_secs_f64()) as u64;
        let pipeline = pipeline::measure(Choice::Development, plan, |_| {}).await.unwrap();
        pipeline.check().unwrap();
        assert!(pipeline.drain_s.is_some() && pipeline.losses.is_empty(), "{pipeline}");
        assert_eq!(pipeline.pubacks.count, due, "{pipeline}");
        assert!(pipeline.acked >= due + probes && pipeline.stored == pipeline.acked, "{pipeline}");
        let applied = |name: &str| pipeline.lags.iter().find(|lag| lag.service == name).unwrap();
        for service in ["auditor", "monitor", "notifier"] {
            assert!(applied(service).applied_per_second > 0.0, "{pipeline}");
        }
        for timed in &pipeline.timed {
            assert_eq!((timed.delays.count, timed.missing), (probes / 2, 0), "{pipeline}");
            assert!(timed.delays.p50_ms > 0.0, "{pipeline}");
        }
        for part in ["broker", "postgres", "auditor", "monitor", "notifier", "load"] {
            assert!(pipeline.parts.iter().any(|one| one.name == part), "{part} in {pipeline}");
        }
        let svg = pipeline.svg();
        assert_eq!(svg.matches("<polyline").count(), 3 + 4 + 2 + 6, "{svg}");
    }
}
