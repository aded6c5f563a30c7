//! Where reading goes on, and whether a stored offset is still ours: the decisions, pure.

/// What an assigned partition needs, by what Postgres has stored and what Kafka keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// It was never read: it begins here.
    First(i64),
    /// It goes on here.
    Start(i64),
    /// Records were deleted before they were read: they are reported, and it goes on at `to`.
    Gap {
        /// The first offset that is missing.
        from: i64,
        /// The offset behind the last one.
        to: i64,
    },
    /// More was read than there is: the stream is not the one that was read.
    Stuck {
        /// Where it would go on.
        stored: i64,
        /// Where the stream ends.
        end: i64,
    },
}

/// `low` is the first offset that Kafka keeps, `end` the one that comes next.
pub(super) fn plan(stored: Option<i64>, low: i64, end: i64) -> Plan {
    match stored {
        None => Plan::First(low),
        Some(stored) if stored < low => Plan::Gap { from: stored, to: low },
        Some(stored) if stored > end => Plan::Stuck { stored, end },
        Some(stored) => Plan::Start(stored),
    }
}

/// What a lane knows of the stored offset of one of its partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It was this when the partition was assigned. The member that had it before may still have
    /// finished a transaction.
    Assigned(i64),
    /// We have stored it.
    Stored(i64),
    /// The connection was lost while we committed: it is one or the other.
    InDoubt {
        /// If it was rolled back.
        before: i64,
        /// If it was committed.
        after: i64,
    },
}

impl Known {
    /// Where to go on, if `stored`, read under its lock, is what we expect; else another member
    /// reads this partition (or somebody has changed it), and we are fenced.
    pub(super) fn judge(self, stored: Option<i64>) -> Option<i64> {
        let stored = stored?;
        let is_ours = match self {
            Self::Assigned(offset) => stored >= offset,
            Self::Stored(offset) => stored == offset,
            Self::InDoubt { before, after } => stored == before || stored == after,
        };
        is_ours.then_some(stored)
    }

    /// The offset that is stored at least.
    pub(super) fn least(self) -> i64 {
        match self {
            Self::Assigned(offset) | Self::Stored(offset) | Self::InDoubt { before: offset, .. } => offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_go_on_where_they_can() {
        for (stored, low, end, expected) in [
            (None, 0, 0, Plan::First(0)),
            (None, 7, 9, Plan::First(7)),
            (Some(0), 0, 0, Plan::Start(0)),
            (Some(7), 7, 9, Plan::Start(7)),
            (Some(9), 7, 9, Plan::Start(9)),
            (Some(9), 9, 9, Plan::Start(9)),
            (Some(6), 7, 9, Plan::Gap { from: 6, to: 7 }),
            (Some(0), 9, 9, Plan::Gap { from: 0, to: 9 }),
            (Some(10), 7, 9, Plan::Stuck { stored: 10, end: 9 }),
            (Some(1), 0, 0, Plan::Stuck { stored: 1, end: 0 }),
        ] {
            assert_eq!(plan(stored, low, end), expected, "{stored:?} in {low}..{end}");
        }
    }

    #[test]
    fn what_others_stored_fences() {
        let in_doubt = Known::InDoubt { before: 5, after: 8 };
        for (known, stored, expected) in [
            (Known::Assigned(5), Some(5), Some(5)),
            (Known::Assigned(5), Some(8), Some(8)),
            (Known::Assigned(5), Some(4), None),
            (Known::Assigned(5), None, None),
            (Known::Stored(5), Some(5), Some(5)),
            (Known::Stored(5), Some(6), None),
            (Known::Stored(5), Some(4), None),
            (Known::Stored(5), None, None),
            (in_doubt, Some(5), Some(5)),
            (in_doubt, Some(8), Some(8)),
            (in_doubt, Some(6), None),
            (in_doubt, Some(9), None),
        ] {
            assert_eq!(known.judge(stored), expected, "{known:?} and {stored:?}");
        }
    }
}
