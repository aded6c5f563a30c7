//! What is counted about hooks.

use latchline_shared::hook::Call;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

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
