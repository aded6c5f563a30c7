//! `GET /v1/audit/verify`: whether a part of a chain is what was written.
//!
//! Recomputes the hashes of the rows and names the first that does not fit. The database is asked
//! about itself: a chain that somebody hashed anew from the change on, or whose tail and head were
//! cut, fits. Against that there are signed checkpoints that were kept elsewhere, and
//! `latchline-auditor verify`, which is given them.

use axum::Json;
use axum::extract::{Query, State as Extract};
use latchline_shared::kit::api::params::{Params, bad};
use latchline_shared::kit::api::{openapi, permit};
use latchline_shared::kit::http::problem::Problem;
use serde::Serialize;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row as Columns};
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::{IntoParams, ToSchema};

use super::failure::Failure;
use super::openapi::UNREADABLE;
use super::{Shared, State};
use crate::chain::{Hash, Head};
use crate::history::{self, Position};

/// Rows that are read at once.
const PAGE_ROWS: i64 = 500;

/// What was found.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Verification {
    /// The chain.
    chain_id: i16,
    /// Number of the first row that was asked for.
    from: i64,
    /// Number of the last row that was looked at; of the one before `from` if none was.
    to: i64,
    /// Rows that were looked at.
    rows: i64,
    /// Whether all were what was written.
    intact: bool,
    /// The first thing that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Finding>,
}

/// Something that is wrong with a chain.
#[derive(Debug, Serialize, ToSchema)]
struct Finding {
    /// Number of the row.
    seq: i64,
    /// `missing`, `inserted`, `raw`, `leaf`, `link`, `detail`, `unreadable` or `head`.
    kind: &'static str,
    /// In words.
    detail: String,
}

/// `chain`, `from` and `to`.
pub(super) struct VerifyParameters;

impl IntoParams for VerifyParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let to = "Last row, `from` or later; at most `from` + `api.verify_rows_max` - 1, as it is by default";
        vec![
            openapi::required(openapi::number("chain", "The chain", 0..=i64::from(i16::MAX))),
            openapi::number("from", "First row; 1 by default", 1..=i64::MAX),
            openapi::number("to", to, 1..=i64::MAX),
        ]
    }
}

/// Whether a part of a chain is what was written.
///
/// Names the first row that was changed, removed, inserted or moved. Months that were archived are
/// stepped over by the hashes that were kept of them. Needs the scope `admin`. To prove the history
/// against checkpoints that were kept elsewhere, use `latchline-auditor verify`.
#[utoipa::path(get, path = "/v1/audit/verify", tag = "proof", params(VerifyParameters),
    responses((status = 200, body = Verification), (status = 429, description = "too many run"),
              (status = 500, description = UNREADABLE)))]
pub(super) async fn verify(
    Extract(state): Shared,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Verification>, Problem> {
    let rows_max = i64::try_from(state.api.limits.verify_rows_max).unwrap_or(i64::MAX);
    let mut params = Params::new(pairs);
    let chain_id = params.number("chain", 0..=i64::from(i16::MAX));
    let from = params.number("from", 1..=i64::MAX).unwrap_or(1);
    let to = params.number("to", 1..=i64::MAX);
    params.finish()?;
    let chain_id = chain_id.and_then(|chain_id| i16::try_from(chain_id).ok());
    let chain_id = chain_id.ok_or_else(|| bad("chain: must be given"))?;
    let to = to.unwrap_or(from.saturating_add(rows_max - 1));
    if from > to || to - from >= rows_max {
        return Err(bad(format!("to: must be from, or up to {} more", rows_max - 1)));
    }
    let _permit = permit(&state.verifications, "verifications")?;
    Ok(Json(state.verify(chain_id, from, to).await?))
}

/// Rows of a chain that were archived, one after the other.
struct Run {
    first_seq: i64,
    end: Head,
}

/// A walk along a chain.
struct Walk {
    end: Head,
    rows: i64,
    problem: Option<Finding>,
}

impl State {
    async fn verify(&self, chain_id: i16, from: i64, to: i64) -> Result<Verification, Failure> {
        // The connection is closed behind us, and the snapshot with it.
        let client = self.snapshot().await?;
        let runs = runs(&client, chain_id, from).await?;
        let walk = match anchor(&client, chain_id, from, &runs).await? {
            Ok(end) => walk(&client, chain_id, end, to, &runs).await?,
            Err(problem) => Walk {
                end: Head { seq: from - 1, ..Head::genesis(chain_id) },
                rows: 0,
                problem: Some(problem),
            },
        };
        Ok(Verification {
            chain_id,
            from,
            to: walk.end.seq,
            rows: walk.rows,
            intact: walk.problem.is_none(),
            problem: walk.problem,
        })
    }
}

/// What the row `from` is linked to: the row before it, or what is known of it.
async fn anchor(
    client: &Client,
    chain_id: i16,
    from: i64,
    runs: &[Run],
) -> Result<Result<Head, Finding>, Failure> {
    if from == 1 {
        return Ok(Ok(Head::genesis(chain_id)));
    }
    if let Some(run) = runs.iter().find(|run| (run.first_seq..=run.end.seq).contains(&(from - 1))) {
        return Ok(Ok(run.end));
    }
    let before = history::page(client, chain_id, &mut Position::after(from - 2), 1).await?.pop();
    let row = before.transpose()?.filter(|row| row.seq == from - 1);
    Ok(row.map(|row| Head::at(&row)).ok_or_else(|| Finding {
        seq: from - 1,
        kind: "missing",
        detail: "the row before the first is missing".to_owned(),
    }))
}

/// Goes on from `end` to the row `to`, or to the first that does not fit.
async fn walk(client: &Client, chain_id: i16, mut end: Head, to: i64, runs: &[Run]) -> Result<Walk, Failure> {
    let head = head(client, chain_id).await?;
    let mut position = Position::after(end.seq);
    let mut rows = 0;
    loop {
        let page = history::page(client, chain_id, &mut position, PAGE_ROWS).await?;
        if page.is_empty() {
            end = over_runs(end, runs);
            let problem = at_end(&end, head.as_ref(), to);
            return Ok(Walk { end, rows, problem });
        }
        for row in page {
            let row = match row {
                Ok(row) => row,
                Err(row) => {
                    let problem = Finding { seq: row.seq, kind: "unreadable", detail: row.what };
                    return Ok(Walk { end, rows, problem: Some(problem) });
                }
            };
            end = over_runs(end, runs);
            if row.seq > to && end.seq >= to {
                return Ok(Walk { end, rows, problem: None });
            }
            if let Err(broken) = end.follows(&row) {
                let seq = row.seq.min(end.seq + 1);
                let problem = Finding { seq, kind: broken.name(), detail: broken.to_string() };
                return Ok(Walk { end, rows, problem: Some(problem) });
            }
            end = Head::at(&row);
            rows += 1;
        }
    }
}

/// Steps over what was archived.
fn over_runs(mut end: Head, runs: &[Run]) -> Head {
    while let Some(run) = runs.iter().find(|run| run.first_seq == end.seq + 1) {
        end = run.end;
    }
    end
}

/// Behind the last row: whether it is the one that the chain ends with.
fn at_end(end: &Head, head: Option<&Head>, to: i64) -> Option<Finding> {
    let empty = Head { seq: 0, ..*end };
    let head = head.unwrap_or(&empty);
    let detail = if end.seq < head.seq && end.seq < to {
        format!("the chain should go on to row {}", head.seq)
    } else if end.seq > head.seq {
        format!("the chain should end with row {}", head.seq)
    } else if end.seq == head.seq && end != head {
        "the chain does not end with what was written last".to_owned()
    } else {
        return None;
    };
    Some(Finding { seq: end.seq, kind: "head", detail })
}

/// Where the chain ends, if it has begun.
async fn head(client: &Client, chain_id: i16) -> Result<Option<Head>, Failure> {
    let select = "select seq, chain_hash, detail_hash from auditor.chain_head where chain_id = $1";
    let row = client.query_typed_opt(select, &[(&chain_id, Type::INT2)]).await?;
    row.map(|row| head_of(&row)).transpose()
}

/// What was archived of the chain, from around `from`.
async fn runs(client: &Client, chain_id: i16, from: i64) -> Result<Vec<Run>, Failure> {
    let select = "select last_seq, chain_hash, detail_hash, first_seq from auditor.archived_run \
         where chain_id = $1 and last_seq >= $2 - 1 order by first_seq";
    let rows = client.query_typed(select, &[(&chain_id, Type::INT2), (&from, Type::INT8)]).await?;
    rows.iter().map(|row| Ok(Run { first_seq: row.try_get(3)?, end: head_of(row)? })).collect()
}

fn head_of(row: &Columns) -> Result<Head, Failure> {
    // A hash of another length is none, and fits nothing.
    let hash = |index| {
        let bytes: &[u8] = row.try_get(index)?;
        Ok::<Hash, tokio_postgres::Error>(Hash::try_from(bytes).unwrap_or_default())
    };
    Ok(Head { seq: row.try_get(0)?, chain_hash: hash(1)?, detail_hash: hash(2)? })
}
