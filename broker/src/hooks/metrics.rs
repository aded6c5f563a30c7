//! What is counted about hooks, and by the guard.

use latchline_shared::hook::Call;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::guard::verdict::Verdict;

/// Counters of the hook chain; clones share them.
#[derive(Debug, Clone, Default)]
pub struct HookMetrics {
    faults: Family<FaultLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaultLabels {
    /// The call, which the contract names a hook.
    hook: &'static str,
    /// The name of who answers it.
    link: &'static str,
}

impl HookMetrics {
    /// Names the counters in the registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "broker_hook_faults",
            "Panics, faults and missed deadlines of hooks",
            self.faults.clone(),
        );
    }

    /// Faults of one link in one call so far.
    pub fn faults(&self, link: &'static str, call: Call) -> u64 {
        self.counter(link, call).get()
    }

    pub(super) fn count_fault(&self, link: &'static str, call: Call) {
        self.counter(link, call).inc();
    }

    fn counter(&self, link: &'static str, call: Call) -> Counter {
        self.faults.get_or_create_owned(&FaultLabels { hook: call.name(), link })
    }
}

/// Counters of the guard; clones share them.
#[derive(Debug, Clone)]
pub struct GuardMetrics {
    commands: Family<VerdictLabel, Counter>,
    nonces: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabel {
    verdict: &'static str,
}

impl Default for GuardMetrics {
    fn default() -> Self {
        let commands: Family<VerdictLabel, Counter> = Family::default();
        // A series that begins with its first attack would hide that attack from a rate.
        for verdict in Verdict::ALL {
            let _zero = commands.get_or_create_owned(&VerdictLabel { verdict: verdict.word() });
        }
        Self { commands, nonces: Gauge::default() }
    }
}

impl GuardMetrics {
    /// Names the counters in the registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("broker_guard_commands", "Commands by the guard's verdict", self.commands.clone());
        registry.register("broker_guard_nonces", "Nonces that the guard remembers", self.nonces.clone());
    }

    /// Commands with this verdict so far.
    pub fn commands(&self, verdict: Verdict) -> u64 {
        self.counter(verdict).get()
    }

    pub(super) fn count(&self, verdict: Verdict) {
        self.counter(verdict).inc();
    }

    pub(super) fn set_nonces(&self, count: usize) {
        self.nonces.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    fn counter(&self, verdict: Verdict) -> Counter {
        self.commands.get_or_create_owned(&VerdictLabel { verdict: verdict.word() })
    }
}
