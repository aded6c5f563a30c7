//! One hook in the chain, with what it may cost: a deadline and a policy for faults.
//!
//! A panic is a fault, a missed deadline is a fault; both are counted, logged at most once a minute
//! per hook, and end here. What a fault then means is decided by the policy: `Open` goes on as if
//! the hook had no opinion and had promised nothing, `Closed` refuses or withholds the
//! acknowledgement.
//!
//! Non-guarantee: the receipts of a `Closed` link without deadline (the bridge) are passed on
//! untouched, at no cost, so their faults are not counted here.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use latchline_shared::fault::Fault;
use latchline_shared::hook::{Answer, Authentication, Call, Connect, Hook};
use latchline_shared::receipt::Receipt;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use super::metrics::HookMetrics;

/// A hook and what it may cost.
pub struct Link {
    /// The hook.
    pub hook: Arc<dyn Hook>,
    /// How long an answer or a receipt may take; unbounded if there is none.
    pub deadline: Option<Duration>,
    /// What a fault means.
    pub on_fault: OnFault,
}

/// What a hook's fault means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFault {
    /// Go on without the hook: for what is good to have.
    Open,
    /// Refuse, or do not acknowledge: for what guards or stores.
    Closed,
}

/// A link at work.
pub(super) struct Guarded {
    link: Link,
    tasks: TaskTracker,
    metrics: HookMetrics,
    log: Quiet,
}

impl Guarded {
    pub(super) fn new(link: Link, tasks: TaskTracker, metrics: HookMetrics) -> Self {
        Self { link, tasks, metrics, log: Quiet::default() }
    }

    pub(super) fn hook(&self) -> &dyn Hook {
        &*self.link.hook
    }

    pub(super) fn is_open(&self) -> bool {
        self.link.on_fault == OnFault::Open
    }

    /// Calls the hook; a panic comes back as a fault.
    pub(super) fn call<T>(&self, call: Call, method: impl FnOnce(&dyn Hook) -> T) -> Result<T, Fault> {
        // The hook's own state after a panic is the hook's affair: it is `Sync` and will be called
        // again. Nothing of ours is written by `method`.
        catch_unwind(AssertUnwindSafe(|| method(self.hook()))).map_err(|panic| self.panicked(call, &*panic))
    }

    /// Asks who the client is, and waits for an answer that comes later.
    pub(super) async fn authenticate(&self, connect: &Arc<Connect>) -> Result<Authentication, Fault> {
        let call = Call::ClientAuthenticate;
        let mut later = match self.call(call, |hook| hook.client_authenticate(connect))? {
            Answer::Now(authentication) => return Ok(authentication),
            Answer::Later(later) => later,
        };
        let guarded = poll_fn(|cx| {
            catch_unwind(AssertUnwindSafe(|| later.as_mut().poll(cx)))
                .unwrap_or_else(|panic| Poll::Ready(Err(bug(&*panic))))
        });
        let result = self.within_deadline(guarded).await;
        result.inspect_err(|fault| self.note(call, fault))
    }

    /// The receipt that the connection waits for in place of the hook's.
    pub(super) fn watch(self: &Arc<Self>, call: Call, mut receipt: Receipt) -> Receipt {
        if receipt.is_settled() || (self.link.deadline.is_none() && !self.is_open()) {
            return receipt;
        }
        if let Poll::Ready(result) = Pin::new(&mut receipt).poll(&mut Context::from_waker(Waker::noop())) {
            return self.policy(call, result).map_or_else(Receipt::failed, |()| Receipt::settled());
        }
        let (watched, slot) = Receipt::open(1);
        let link = Arc::clone(self);
        self.tasks.spawn(async move {
            let result = link.within_deadline(receipt).await;
            slot.settle(link.policy(call, result));
        });
        watched
    }

    /// A receipt for a call that ended in a panic.
    pub(super) fn receipt_of(&self, fault: Fault) -> Receipt {
        if self.is_open() { Receipt::settled() } else { Receipt::failed(fault) }
    }

    async fn within_deadline<T>(&self, answer: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        match self.link.deadline {
            None => answer.await,
            Some(deadline) => timeout(deadline, answer)
                .await
                .unwrap_or_else(|_| Err(Fault::transient("the hook missed its deadline"))),
        }
    }

    fn policy(&self, call: Call, result: Result<(), Fault>) -> Result<(), Fault> {
        let result = result.inspect_err(|fault| self.note(call, fault));
        if self.is_open() { Ok(()) } else { result }
    }

    fn panicked(&self, call: Call, panic: &(dyn Any + Send)) -> Fault {
        let fault = bug(panic);
        self.note(call, &fault);
        fault
    }

    fn note(&self, call: Call, fault: &Fault) {
        let (link, hook) = (self.hook().name(), call.name());
        self.metrics.count_fault(link, call);
        let Some(unlogged) = self.log.turn(self.log.since.elapsed()) else { return };
        match fault {
            Fault::Bug(_) => error!(hook, link, unlogged, error = %fault, "hook failed"),
            _ => warn!(hook, link, unlogged, error = %fault, "hook failed"),
        }
    }
}

fn bug(panic: &(dyn Any + Send)) -> Fault {
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    Fault::Bug(text.map_or("the hook panicked".into(), |text| format!("the hook panicked: {text}").into()))
}

/// Lets one event a minute through, and counts the others.
struct Quiet {
    since: Instant,
    next_ms: AtomicU64,
    silent: AtomicU64,
}

impl Default for Quiet {
    fn default() -> Self {
        Self { since: Instant::now(), next_ms: AtomicU64::new(0), silent: AtomicU64::new(0) }
    }
}

impl Quiet {
    const PAUSE_MS: u64 = 60_000;

    /// How many events were kept quiet before this one, if it is this one's turn.
    fn turn(&self, now: Duration) -> Option<u64> {
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let next_ms = self.next_ms.load(Ordering::Relaxed);
        let later_ms = now_ms.saturating_add(Self::PAUSE_MS);
        let is_turn = now_ms >= next_ms
            && self.next_ms.compare_exchange(next_ms, later_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !is_turn {
            self.silent.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.silent.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_a_minute_is_logged() {
        let quiet = Quiet::default();
        let turn_at = |seconds| quiet.turn(Duration::from_secs(seconds));
        assert_eq!(turn_at(5), Some(0));
        assert_eq!(turn_at(5), None);
        assert_eq!(turn_at(64), None);
        assert_eq!(turn_at(65), Some(2));
        assert_eq!(turn_at(66), None);
        assert_eq!(turn_at(1000), Some(1));
    }
}
