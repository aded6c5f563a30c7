//! `GET /v1/audit/stats`: how many events of each sort, hour by hour or day by day.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, State as Extract};
use jiff::{SignedDuration, Timestamp};
use latchline_shared::kit::api::openapi;
use latchline_shared::kit::api::params::{Params, bad};
use latchline_shared::kit::http::problem::Problem;
use serde::Serialize;
use tokio_postgres::types::Type;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::{IntoParams, ToSchema};

use super::failure::Failure;
use super::{Shared, State};
use crate::query::filter::SINCE_DEFAULT;
use crate::query::view;

/// Most buckets of an answer: 41 days by hours.
const BUCKETS_MAX: i64 = 1000;

/// By what events are counted.
#[derive(Debug, Clone, Copy)]
enum GroupBy {
    Verdict,
    Kind,
    Finding,
    Severity,
}

const GROUPS: [(&str, GroupBy); 4] = [
    ("verdict", GroupBy::Verdict),
    ("kind", GroupBy::Kind),
    ("finding", GroupBy::Finding),
    ("severity", GroupBy::Severity),
];

const BUCKETS: [(&str, SignedDuration); 2] =
    [("1h", SignedDuration::from_hours(1)), ("1d", SignedDuration::from_hours(24))];

impl GroupBy {
    /// What is counted, and where it is.
    fn sql(self) -> (&'static str, &'static str) {
        match self {
            Self::Verdict => ("verdict", "auditor.event"),
            Self::Kind => ("kind", "auditor.event"),
            Self::Finding => ("finding", "auditor.event, unnest(findings) finding"),
            Self::Severity => {
                ("(array['info', 'warning', 'major', 'critical'])[severity + 1]", "auditor.event")
            }
        }
    }
}

/// Numbers of events over time.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stats {
    /// From then.
    #[schema(format = DateTime)]
    since: String,
    /// Before then.
    #[schema(format = DateTime)]
    until: String,
    /// Those in which something happened. The first begins before `since` if that is within one.
    buckets: Vec<Bucket>,
}

/// Numbers of events from one full hour or day (UTC) to the next.
#[derive(Debug, Serialize, ToSchema)]
struct Bucket {
    /// Its beginning.
    #[schema(format = DateTime)]
    at: String,
    /// What was counted, and how often it was there.
    counts: BTreeMap<String, i64>,
}

/// `group_by`, `bucket`, `since` and `until`.
pub(super) struct StatsParameters;

impl IntoParams for StatsParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let since = "From then (inclusive); by default 7 days before `until`. From there to `until` it must \
                     be less than 1,000 buckets";
        vec![
            openapi::word("group_by", "By what; `verdict` by default", GROUPS.map(|(name, _)| name)),
            openapi::word("bucket", "How long each is; `1h` by default", BUCKETS.map(|(name, _)| name)),
            openapi::time("since", since),
            openapi::time("until", "Before then (exclusive); by default now"),
        ]
    }
}

/// How many events of each sort, over time.
#[utoipa::path(get, path = "/v1/audit/stats", tag = "history", params(StatsParameters),
    responses((status = 200, body = Stats)))]
pub(super) async fn stats(
    Extract(state): Shared,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Stats>, Problem> {
    let mut params = Params::new(pairs);
    let group_by = params.word("group_by", &GROUPS).unwrap_or(GroupBy::Verdict);
    let bucket = params.word("bucket", &BUCKETS).unwrap_or(BUCKETS[0].1);
    let (since, until) = (params.time("since"), params.time("until"));
    params.finish()?;
    let until = until.unwrap_or_else(Timestamp::now);
    let since = since.or_else(|| until.checked_sub(SINCE_DEFAULT).ok()).unwrap_or(Timestamp::UNIX_EPOCH);
    if since >= until {
        return Err(bad("since: must be before until"));
    }
    if until.duration_since(since).as_secs() / bucket.as_secs() >= BUCKETS_MAX {
        return Err(bad(format!("since: would give more than {BUCKETS_MAX} buckets; ask for longer ones")));
    }
    let buckets = state.stats(group_by, bucket, since, until).await?;
    let time = |time: Timestamp| view::time_ms(time.as_millisecond());
    Ok(Json(Stats { since: time(since), until: time(until), buckets }))
}

impl State {
    async fn stats(
        &self,
        group_by: GroupBy,
        bucket: SignedDuration,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Bucket>, Failure> {
        let (value, from) = group_by.sql();
        let select = format!(
            "select date_bin($1 * interval '1 second', occurred_at, timestamptz 'epoch'), {value}, count(*) \
             from {from} where occurred_at >= $2 and occurred_at < $3 and {value} <> '' \
             group by 1, 2 order by 1, 2"
        );
        let mut client = self.tables.client().await?;
        let transaction = self.tables.reading(&mut client).await?;
        let rows = transaction
            .query_typed(
                &select,
                &[
                    (&(bucket.as_secs() as f64), Type::FLOAT8),
                    (&since, Type::TIMESTAMPTZ),
                    (&until, Type::TIMESTAMPTZ),
                ],
            )
            .await?;
        let mut buckets: Vec<Bucket> = Vec::new();
        for row in rows {
            let at: Timestamp = row.try_get(0)?;
            let at = view::time_ms(at.as_millisecond());
            if buckets.last().is_none_or(|bucket| bucket.at != at) {
                buckets.push(Bucket { at, counts: BTreeMap::new() });
            }
            if let Some(bucket) = buckets.last_mut() {
                bucket.counts.insert(row.try_get(1)?, row.try_get(2)?);
            }
        }
        Ok(buckets)
    }
}
