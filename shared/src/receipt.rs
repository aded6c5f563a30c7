//! A hook's answer that settles later.
//!
//! A [`Receipt`] is a future without a runtime: whoever promised something holds its [`Slot`] and
//! settles it, once for each part. The PUBACK to a publisher waits for the receipt of its message,
//! so "settled" must mean "stored".
//!
//! Invariant: whoever opens a receipt settles every part of it, with a fault if need be; the
//! bridge does so from the producer's delivery report, which comes for every record.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::budget::Permit;
use crate::fault::Fault;

/// Ready when everything that a hook promised has happened.
#[derive(Debug)]
#[must_use = "an acknowledgement waits for its receipt"]
pub struct Receipt(State);

#[derive(Debug)]
enum State {
    Settled(Result<(), Fault>),
    Open(Waiting),
    All(Vec<Receipt>),
}

/// The receiving end of a [`Slot`]: who drops it waits no more.
#[derive(Debug)]
struct Waiting(Arc<Slot>);

impl Drop for Waiting {
    fn drop(&mut self) {
        // A waker keeps its task's memory; without this, as long as the record is not stored.
        let _waker = self.0.lock().waker.take();
    }
}

impl Receipt {
    /// A receipt that is ready at once: nothing was promised, or it has happened.
    pub fn settled() -> Self {
        Self(State::Settled(Ok(())))
    }

    /// A receipt for what failed at once.
    pub fn failed(fault: Fault) -> Self {
        Self(State::Settled(Err(fault)))
    }

    /// An open receipt and `parts` handles, all of which must settle.
    ///
    /// # Panics
    /// If `parts` is 0: nothing would ever settle it.
    pub fn open(parts: u32) -> (Self, Arc<Slot>) {
        assert!(parts > 0, "a receipt of no parts never settles");
        let slot = Arc::new(Slot(Mutex::new(Inner { parts, fault: None, waker: None, permit: None })));
        (Self(State::Open(Waiting(Arc::clone(&slot)))), slot)
    }

    /// Ready when both are; the first fault wins.
    pub fn and(self, other: Self) -> Self {
        match (self.0, other.0) {
            (State::Settled(Ok(())), other) => Self(other),
            (own, State::Settled(Ok(()))) => Self(own),
            (State::All(mut all), other) => {
                all.push(Self(other));
                Self(State::All(all))
            }
            (own, other) => Self(State::All(vec![Self(own), Self(other)])),
        }
    }

    /// Whether the receipt has already settled without fault.
    pub fn is_settled(&self) -> bool {
        matches!(self.0, State::Settled(Ok(())))
    }

    /// Keeps `permit` until everything has settled, even when nobody waits for it any more.
    pub fn hold(&mut self, permit: Permit) {
        match &mut self.0 {
            State::Settled(_) => {}
            State::Open(Waiting(slot)) => {
                let mut inner = slot.lock();
                if inner.parts > 0 {
                    inner.permit = Some(permit);
                }
            }
            // Each hook's memory is its own; the longest-lived one is not known beforehand, so the
            // permit stays with the last, which is where the bridge stands.
            State::All(all) => {
                if let Some(last) = all.last_mut() {
                    last.hold(permit);
                }
            }
        }
    }
}

impl Future for Receipt {
    type Output = Result<(), Fault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Settled(result) => Poll::Ready(result.clone()),
            State::Open(Waiting(slot)) => slot.poll(cx),
            State::All(all) => {
                for receipt in all.iter_mut() {
                    match Pin::new(receipt).poll(cx) {
                        Poll::Ready(Ok(())) => {}
                        other => return other,
                    }
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

/// Where the promises of one [`Receipt`] are settled. One `settle` per part.
#[derive(Debug)]
pub struct Slot(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    parts: u32,
    fault: Option<Fault>,
    waker: Option<Waker>,
    permit: Option<Permit>,
}

impl Slot {
    /// Settles one part. The first fault is kept.
    pub fn settle(&self, result: Result<(), Fault>) {
        let (waker, permit) = {
            let mut inner = self.lock();
            inner.parts = inner.parts.saturating_sub(1);
            if let Err(fault) = result {
                inner.fault.get_or_insert(fault);
            }
            if inner.parts > 0 {
                return;
            }
            (inner.waker.take(), inner.permit.take())
        };
        drop(permit);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let mut inner = self.lock();
        if inner.parts == 0 {
            return Poll::Ready(inner.fault.clone().map_or(Ok(()), Err));
        }
        match &mut inner.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;
    use crate::budget::Budget;

    fn poll(receipt: &mut Receipt) -> Poll<Result<(), Fault>> {
        Pin::new(receipt).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn is_ready_when_every_part_has_settled() {
        let (mut receipt, slot) = Receipt::open(2);
        assert!(poll(&mut receipt).is_pending());
        slot.settle(Ok(()));
        assert!(poll(&mut receipt).is_pending());
        slot.settle(Ok(()));
        assert_eq!(poll(&mut receipt), Poll::Ready(Ok(())));
    }

    #[test]
    fn keeps_the_first_fault() {
        let (mut receipt, slot) = Receipt::open(3);
        slot.settle(Err(Fault::transient("first")));
        slot.settle(Err(Fault::transient("second")));
        slot.settle(Ok(()));
        assert_eq!(poll(&mut receipt), Poll::Ready(Err(Fault::transient("first"))));
    }

    #[test]
    fn joins_receipts() {
        let (first, first_slot) = Receipt::open(1);
        let (second, second_slot) = Receipt::open(1);
        let mut both = Receipt::settled().and(first).and(second);
        first_slot.settle(Ok(()));
        assert!(poll(&mut both).is_pending());
        second_slot.settle(Err(Fault::transient("no")));
        assert!(matches!(poll(&mut both), Poll::Ready(Err(_))));
    }

    #[test]
    fn who_does_not_wait_any_more_is_forgotten() {
        struct Nobody;

        impl Wake for Nobody {
            fn wake(self: Arc<Self>) {}
        }

        let nobody = Arc::new(Nobody);
        let waker = Waker::from(Arc::clone(&nobody));
        let (mut receipt, _slot) = Receipt::open(1);
        assert!(Pin::new(&mut receipt).poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(Arc::strong_count(&nobody), 3);
        drop(receipt);
        assert_eq!(Arc::strong_count(&nobody), 2);
    }

    #[test]
    fn holds_its_permit_until_settled_even_when_dropped() {
        let budget = Budget::new(10);
        let (mut receipt, slot) = Receipt::open(1);
        receipt.hold(budget.take(7));
        drop(receipt);
        assert_eq!(budget.used(), 7);
        slot.settle(Ok(()));
        assert_eq!(budget.used(), 0);
    }
}
