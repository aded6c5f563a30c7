//! Walks along one chain and says what is wrong with it. Pure: rows and evidence come from outside.
//!
//! Evidence is what the end of the chain was at some time, from anywhere else than the rows: the
//! chain's head, a checkpoint, the end of an archived run. It is what finds a tail that was cut
//! off, or a history that was rewritten with fitting hashes.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::chain::{Break, Head, intact};
use crate::event::Row;

/// What the end of a chain was at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The end.
    pub head: Head,
    /// Who says so.
    pub source: Source,
}

/// Who says what the end of a chain was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The table of heads.
    ChainHead,
    /// A checkpoint of the database.
    Stored,
    /// A checkpoint from elsewhere.
    Given,
    /// The end of an archived run.
    Archived,
}

impl Source {
    fn name(&self) -> &'static str {
        match self {
            Self::ChainHead => "the head of the chain",
            Self::Stored => "a checkpoint",
            Self::Given => "a checkpoint that was given",
            Self::Archived => "the end of an archived run",
        }
    }

    fn is_checkpoint(&self) -> bool {
        matches!(self, Self::Stored | Self::Given)
    }
}

/// Consecutive rows that were archived and are not in the database any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Number of the first row.
    pub first_seq: i64,
    /// The chain's end with its last row.
    pub end: Head,
    /// Where the rows are.
    pub file: String,
}

/// What to do about rows that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gaps {
    /// They were removed.
    Refuse,
    /// They were never asked for: a selection is verified.
    Count,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Chain of the row.
    pub chain_id: i16,
    /// Number of the first row that is wrong.
    pub seq: i64,
    /// What it is, as a word.
    pub kind: &'static str,
    /// What it is.
    pub detail: String,
}

/// What was found out about a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainReport {
    /// The chain.
    pub chain_id: i16,
    /// Rows that were verified.
    pub rows: u64,
    /// Number of the last one.
    pub last_seq: i64,
    /// Rows of which the raw record was removed.
    pub raw_removed: u64,
    /// Rows after the last checkpoint: their end could be cut off unseen.
    pub rows_uncovered: i64,
    /// Checkpoints that agree with the rows.
    pub checkpoints: u64,
    /// Checkpoints and the like about rows that are not at hand.
    pub unverified_marks: u64,
    /// Archived runs that were not looked into: numbers of the first and the last row, and the file.
    pub skipped: Vec<(i64, i64, String)>,
    /// Rows left out of a selection.
    pub gaps: u64,
    /// What is wrong, the first of the rows' problems first.
    pub problems: Vec<Problem>,
}

/// On its way along a chain.
#[derive(Debug)]
pub struct Walker {
    report: ChainReport,
    head: Head,
    marks: BTreeMap<i64, Vec<Mark>>,
    runs: VecDeque<Run>,
    gaps: Gaps,
    covered_seq: i64,
    is_broken: bool,
}

impl Walker {
    /// At the begin of a chain.
    pub fn new(chain_id: i16, marks: Vec<Mark>, mut runs: Vec<Run>, gaps: Gaps) -> Self {
        runs.sort_by_key(|run| run.first_seq);
        let ends = runs.iter().map(|run| Mark { head: run.end, source: Source::Archived });
        let mut by_seq: BTreeMap<i64, Vec<Mark>> = BTreeMap::new();
        for mark in marks.into_iter().chain(ends) {
            by_seq.entry(mark.head.seq).or_default().push(mark);
        }
        let report = ChainReport {
            chain_id,
            rows: 0,
            last_seq: 0,
            raw_removed: 0,
            rows_uncovered: 0,
            checkpoints: 0,
            unverified_marks: 0,
            skipped: Vec::new(),
            gaps: 0,
            problems: Vec::new(),
        };
        let head = Head::genesis(chain_id);
        let mut walker =
            Self { report, head, marks: by_seq, runs: runs.into(), gaps, covered_seq: 0, is_broken: false };
        walker.arrive();
        walker
    }

    /// Whether a row was wrong, so that the rest of the chain cannot be judged.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// The next row in the chain's order.
    pub fn row(&mut self, row: &Row) {
        if self.is_broken {
            return;
        }
        self.jump(row.seq);
        if self.is_broken {
            return;
        }
        let verdict = match self.head.follows(row) {
            Err(Break::Missing { first, last }) if self.gaps == Gaps::Count => {
                self.report.gaps += last.abs_diff(first) + 1;
                // Its links cannot be judged, itself it can.
                intact(row)
            }
            verdict => verdict,
        };
        match verdict {
            Ok(()) => {
                self.report.rows += 1;
                self.report.raw_removed += u64::from(row.raw_removed);
                self.head = Head::at(row);
                self.arrive();
            }
            Err(Break::Missing { first, last }) => self.broken(first, "missing", missing(first, last)),
            Err(broken) => self.broken(row.seq, broken.name(), broken.to_string()),
        }
    }

    /// The next row cannot be read.
    pub fn unreadable(&mut self, seq: i64, what: &str) {
        if !self.is_broken {
            self.broken(seq, "unreadable", format!("the row cannot be read: {what}"));
        }
    }

    /// Something beside the rows is wrong.
    pub fn problem(&mut self, seq: i64, kind: &'static str, detail: String) {
        let chain_id = self.report.chain_id;
        self.report.problems.push(Problem { chain_id, seq, kind, detail });
    }

    /// There are no more rows.
    pub fn finish(mut self) -> ChainReport {
        if !self.is_broken {
            self.jump(i64::MAX);
        }
        if !self.is_broken {
            let beyond = self.marks.iter().next_back().and_then(|(seq, marks)| Some((*seq, marks.first()?)));
            match beyond {
                Some((seq, mark)) if self.gaps == Gaps::Refuse => {
                    let first = self.head.seq + 1;
                    let what = format!("{}: {} is row {seq}", missing(first, seq), mark.source.name());
                    self.broken(first, "missing", what);
                }
                _ => {}
            }
        }
        self.report.unverified_marks += self.marks.values().map(|marks| marks.len() as u64).sum::<u64>();
        self.report.last_seq = self.head.seq;
        self.report.rows_uncovered = self.head.seq - self.covered_seq;
        self.report
    }

    /// Jumps over the archived runs that lie between here and the row `to`.
    fn jump(&mut self, to: i64) {
        while let Some(run) = self.runs.front() {
            let next = self.head.seq.saturating_add(1);
            if run.end.seq < next {
                self.runs.pop_front();
                continue;
            }
            if run.first_seq != next || to <= run.end.seq {
                return;
            }
            let Some(run) = self.runs.pop_front() else { return };
            self.head = run.end;
            self.report.skipped.push((run.first_seq, run.end.seq, run.file));
            self.arrive();
        }
    }

    /// Compares where we are with what is known of this place.
    fn arrive(&mut self) {
        while let Some(entry) = self.marks.first_entry() {
            if *entry.key() > self.head.seq {
                return;
            }
            for mark in entry.remove() {
                if mark.head.seq < self.head.seq {
                    self.report.unverified_marks += 1;
                } else if mark.head != self.head {
                    let what = format!("{} knows the row with another hash", mark.source.name());
                    let kind = if mark.source.is_checkpoint() { "checkpoint" } else { "head" };
                    return self.broken(self.head.seq, kind, what);
                } else if mark.source.is_checkpoint() {
                    self.report.checkpoints += 1;
                    self.covered_seq = self.head.seq;
                }
            }
        }
    }

    fn broken(&mut self, seq: i64, kind: &'static str, detail: String) {
        self.is_broken = true;
        let chain_id = self.report.chain_id;
        self.report.problems.insert(0, Problem { chain_id, seq, kind, detail });
    }
}

fn missing(first: i64, last: i64) -> String {
    Break::Missing { first, last }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::tests::full;

    fn chain(count: i64) -> Vec<Row> {
        let mut head = Head::genesis(1);
        (1..=count).map(|n| head.link(1, full(n), n, 1)).collect()
    }

    fn mark(row: &Row) -> Mark {
        Mark { head: Head::at(row), source: Source::Given }
    }

    fn run(rows: &[Row]) -> Run {
        let (first, last) = (&rows[0], &rows[rows.len() - 1]);
        Run { first_seq: first.seq, end: Head::at(last), file: "a.ndjson".to_owned() }
    }

    fn walk<'a>(
        rows: impl IntoIterator<Item = &'a Row>,
        marks: Vec<Mark>,
        runs: Vec<Run>,
        gaps: Gaps,
    ) -> ChainReport {
        let mut walker = Walker::new(1, marks, runs, gaps);
        rows.into_iter().for_each(|row| walker.row(row));
        walker.finish()
    }

    fn first(report: &ChainReport) -> Option<(i64, &str)> {
        report.problems.first().map(|problem| (problem.seq, problem.kind))
    }

    #[test]
    fn what_is_intact_is_counted() {
        let rows = chain(10);
        let report = walk(&rows, vec![mark(&rows[3]), mark(&rows[7])], Vec::new(), Gaps::Refuse);
        assert_eq!(first(&report), None);
        assert_eq!((report.rows, report.last_seq, report.checkpoints, report.rows_uncovered), (10, 10, 2, 2));
    }

    #[test]
    fn a_cut_tail_and_a_rewritten_history_are_found_by_marks() {
        let rows = chain(10);
        let cut = walk(&rows[..6], vec![mark(&rows[3]), mark(&rows[7])], Vec::new(), Gaps::Refuse);
        assert_eq!(first(&cut), Some((7, "missing")));
        assert!(cut.problems[0].detail.starts_with("rows 7 to 8 are missing"), "{cut:?}");
        let all_gone = walk([], vec![mark(&rows[7])], Vec::new(), Gaps::Refuse);
        assert_eq!(first(&all_gone), Some((1, "missing")));
        let mut head = Head::genesis(1);
        let rewritten: Vec<Row> = (1..=10).map(|n| head.link(1, full(n + 1), n, 1)).collect();
        let report = walk(&rewritten, vec![mark(&rows[3])], Vec::new(), Gaps::Refuse);
        assert_eq!(first(&report), Some((4, "checkpoint")));
        assert_eq!(first(&walk(&rewritten, Vec::new(), Vec::new(), Gaps::Refuse)), None);
    }

    #[test]
    fn archived_runs_are_jumped_over_or_looked_into() {
        let rows = chain(10);
        let runs = || vec![run(&rows[5..7]), run(&rows[..3])];
        let marks = || vec![mark(&rows[1]), mark(&rows[6])];
        let live = rows[3..5].iter().chain(&rows[7..]);
        let report = walk(live, marks(), runs(), Gaps::Refuse);
        assert_eq!(first(&report), None, "{report:?}");
        let skipped: Vec<_> = report.skipped.iter().map(|(first, last, _)| (*first, *last)).collect();
        assert_eq!((skipped, report.unverified_marks, report.checkpoints), (vec![(1, 3), (6, 7)], 1, 1));
        // With the rows at hand, nothing is jumped over.
        let report = walk(&rows, marks(), runs(), Gaps::Refuse);
        assert_eq!((first(&report), report.skipped.len(), report.checkpoints), (None, 0, 2));
        // Archived is all there is.
        let report = walk([], Vec::new(), vec![run(&rows)], Gaps::Refuse);
        assert_eq!((first(&report), report.last_seq), (None, 10));
        // A run of other rows than these.
        let mut other = run(&rows[..3]);
        other.end.detail_hash = [0; 32];
        assert_eq!(first(&walk(&rows[3..], Vec::new(), vec![other], Gaps::Refuse)), Some((4, "detail")));
        // A row of the run is missing from the file.
        let partly = rows[..2].iter().chain(&rows[3..]);
        assert_eq!(
            first(&walk(partly, Vec::new(), vec![run(&rows[..3])], Gaps::Refuse)),
            Some((3, "missing"))
        );
    }

    #[test]
    fn a_selection_may_have_gaps_and_no_changes() {
        let rows = chain(10);
        let some = || rows[2..4].iter().chain(&rows[6..8]);
        let report = walk(some(), vec![mark(&rows[5]), mark(&rows[7])], Vec::new(), Gaps::Count);
        assert_eq!((first(&report), report.rows, report.gaps, report.checkpoints), (None, 4, 4, 1));
        assert_eq!(first(&walk(some(), Vec::new(), Vec::new(), Gaps::Refuse)), Some((1, "missing")));
        let mut changed = rows[6].clone();
        changed.event.verdict.push('!');
        let report = walk([&rows[2], &changed], Vec::new(), Vec::new(), Gaps::Count);
        assert_eq!(first(&report), Some((7, "leaf")));
    }
}
