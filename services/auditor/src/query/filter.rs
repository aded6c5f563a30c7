//! Which events, and in which order.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use latchline_shared::kit::api::params::Params;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::event::{Direction, Kind, Severity};

/// How far back an answer goes that is not asked for more, from `until`.
pub const SINCE_DEFAULT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What RFC 3986 leaves as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Which events, and in which order. What is `None` does not matter.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// The lock.
    pub client_id: Option<String>,
    /// The process.
    pub process_id: Option<String>,
    /// What was commanded, or reported; of reads, the operation.
    pub action: Option<String>,
    /// What it was.
    pub kind: Option<Kind>,
    /// Where it went.
    pub direction: Option<Direction>,
    /// Verdict or outcome.
    pub verdict: Option<String>,
    /// One of the findings.
    pub finding: Option<String>,
    /// Who published, or read.
    pub publisher: Option<String>,
    /// At least this bad.
    pub min_severity: Option<Severity>,
    /// From then.
    pub since: Option<Timestamp>,
    /// Before then.
    pub until: Option<Timestamp>,
    /// In which order.
    pub order: Order,
}

/// An order of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Order {
    /// By time, newest first.
    #[default]
    Descending = 0,
    /// By time, oldest first.
    Ascending = 1,
    /// In the order of writing, only what no later row can come before: whoever asks on from the
    /// last cursor sees each row once, whenever it was committed.
    Ingest = 2,
}

impl Order {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Descending, Self::Ascending, Self::Ingest];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Descending => "desc",
            Self::Ascending => "asc",
            Self::Ingest => "ingest",
        }
    }
}

impl Filter {
    /// Takes what every route with a filter has; `orders` are those to choose from, the first if
    /// none is asked for.
    pub fn take(params: &mut Params, orders: &[Order]) -> Self {
        let words: Vec<_> = orders.iter().map(|order| (order.name(), *order)).collect();
        let order = match orders {
            [only] => *only,
            _ => params.word("order", &words).or(orders.first().copied()).unwrap_or_default(),
        };
        let filter = Self {
            client_id: None,
            process_id: params.text("process_id"),
            action: params.text("action"),
            kind: params.word("kind", &words_of(Kind::ALL, |kind| kind.name())),
            direction: params.word("direction", &words_of(Direction::ALL, |direction| direction.name())),
            verdict: params.text("verdict"),
            finding: params.text("finding"),
            publisher: params.text("publisher"),
            min_severity: params.parsed("min_severity", severity),
            since: params.time("since"),
            until: params.time("until"),
            order,
        };
        if filter.since.zip(filter.until).is_some_and(|(since, until)| since >= until) {
            params.problem("since", "must be before until");
        }
        filter
    }

    /// Since when rows are asked for, now being `now`. In the order of writing there is no default:
    /// a row that comes late may be old.
    pub fn since(&self, now: Timestamp) -> Option<Timestamp> {
        if self.since.is_some() || self.order == Order::Ingest {
            return self.since;
        }
        self.until.unwrap_or(now).checked_sub(SINCE_DEFAULT).ok()
    }
}

/// As a query string, in one spelling: names in a fixed order, without the defaults.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.since.map(|time| time.to_string());
        let until = self.until.map(|time| time.to_string());
        let given = [
            ("client_id", self.client_id.as_deref()),
            ("process_id", self.process_id.as_deref()),
            ("action", self.action.as_deref()),
            ("kind", self.kind.map(Kind::name)),
            ("direction", self.direction.map(Direction::name)),
            ("verdict", self.verdict.as_deref()),
            ("finding", self.finding.as_deref()),
            ("publisher", self.publisher.as_deref()),
            ("min_severity", self.min_severity.map(Severity::name)),
            ("since", since.as_deref()),
            ("until", until.as_deref()),
        ];
        let given = given.into_iter().filter_map(|(name, value)| Some((name, value?)));
        for (name, value) in given {
            write!(f, "{name}={}&", utf8_percent_encode(value, UNRESERVED))?;
        }
        write!(f, "order={}", self.order.name())
    }
}

fn severity(text: &str) -> Result<Severity, String> {
    let by_number = || text.parse().ok().and_then(Severity::from_level);
    let by_name = Severity::ALL.into_iter().find(|severity| severity.name() == text);
    by_name.or_else(by_number).ok_or_else(|| "must be info, warning, major, critical, or 0 to 3".to_owned())
}

fn words_of<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str) -> Vec<(&'static str, T)> {
    all.iter().map(|one| (name(*one), *one)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(pairs: &[(&str, &str)]) -> Result<Filter, String> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut params = Params::new(pairs);
        let filter = Filter::take(&mut params, &Order::ALL);
        params.finish().map(|()| filter).map_err(|problem| problem.detail.unwrap())
    }

    #[test]
    fn what_is_asked_for_is_understood() {
        let all = filter(&[
            ("process_id", "p&1"),
            ("action", "unlock"),
            ("kind", "command"),
            ("direction", "downlink"),
            ("verdict", "replay"),
            ("finding", "unexpected_receiver"),
            ("publisher", "app"),
            ("min_severity", "2"),
            ("since", "2026-01-01T00:00:00+09:00"),
            ("until", "2026-01-02T00:00:00Z"),
            ("order", "asc"),
        ])
        .unwrap();
        let all = Filter { client_id: Some("開".to_owned()), ..all };
        let expected = "client_id=%E9%96%8B&process_id=p%261&action=unlock&kind=command&direction=downlink\
                        &verdict=replay&finding=unexpected_receiver&publisher=app&min_severity=major\
                        &since=2025-12-31T15:00:00Z&until=2026-01-02T00:00:00Z&order=asc"
            .replace("T15:00:00", "T15%3A00%3A00")
            .replace("T00:00:00", "T00%3A00%3A00");
        assert_eq!(all.to_string(), expected);
        assert_eq!(filter(&[("min_severity", "critical")]).unwrap().min_severity, Some(Severity::Critical));
        assert_eq!(filter(&[]).unwrap(), Filter::default());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (name, value) in [
            ("kind", "Command"),
            ("direction", "up"),
            ("min_severity", "4"),
            ("min_severity", "-1"),
            ("order", "random"),
            ("until", "2026-01-02"),
        ] {
            assert!(filter(&[(name, value)]).unwrap_err().starts_with(name), "{name}={value}");
        }
        let time = "2026-01-02T00:00:00Z";
        let problem = filter(&[("since", time), ("until", time)]).unwrap_err();
        assert_eq!(problem, "since: must be before until");
    }

    #[test]
    fn an_answer_goes_back_a_week_unless_more_is_asked_for() {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        for (pairs, expected) in [
            (&[][..], Some("2026-01-03T00:00:00Z")),
            (&[("until", "2026-01-09T00:00:00Z")], Some("2026-01-02T00:00:00Z")),
            (&[("since", "2020-01-01T00:00:00Z")], Some("2020-01-01T00:00:00Z")),
            (&[("order", "ingest")], None),
        ] {
            let since = filter(pairs).unwrap().since(now);
            assert_eq!(since.map(|time| time.to_string()).as_deref(), expected);
        }
    }
}
