//! How far each partition is stored, for whoever shows it: the lag, and Kafka's own offsets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Partition = (Arc<str>, i32);

/// The next offset of each partition that is read, and the one that Kafka was told last.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<HashMap<Partition, (i64, Option<i64>)>>);

impl Progress {
    /// Its effects are stored up to `next`.
    pub(super) fn stored(&self, stream: &Arc<str>, partition: i32, next: i64) {
        self.lock().entry((Arc::clone(stream), partition)).or_insert((next, None)).0 = next;
    }

    /// Every partition and its next offset.
    pub(super) fn all(&self) -> Vec<(Partition, i64)> {
        self.lock().iter().map(|(partition, (next, _))| (partition.clone(), *next)).collect()
    }

    /// What Kafka has not been told yet. It counts as told.
    pub(super) fn take_untold(&self) -> Vec<(Partition, i64)> {
        let mut untold = Vec::new();
        for (partition, (next, told)) in self.lock().iter_mut() {
            if told.replace(*next) != Some(*next) {
                untold.push((partition.clone(), *next));
            }
        }
        untold
    }

    /// The partitions are somebody else's now.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Partition, (i64, Option<i64>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafka_is_told_what_is_new() {
        let progress = Progress::default();
        let stream: Arc<str> = "a".into();
        progress.stored(&stream, 1, 5);
        assert_eq!(progress.take_untold(), [((Arc::clone(&stream), 1), 5)]);
        progress.stored(&stream, 1, 5);
        assert!(progress.take_untold().is_empty());
        progress.stored(&stream, 1, 6);
        assert_eq!(progress.take_untold(), [((Arc::clone(&stream), 1), 6)]);
        assert_eq!(progress.all(), [((stream, 1), 6)]);
        progress.clear();
        assert!(progress.all().is_empty());
    }
}
