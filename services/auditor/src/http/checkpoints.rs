//! `GET /v1/audit/checkpoints`: the signed states of the chains, for whoever keeps them elsewhere.

use axum::Json;
use axum::extract::{Query, State as Extract};
use jiff::Timestamp;
use latchline_shared::hex;
use latchline_shared::kit::api::openapi;
use latchline_shared::kit::api::params::Params;
use latchline_shared::kit::http::problem::Problem;
use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::{IntoParams, ToSchema};

use super::failure::Failure;
use super::{Shared, State};
use crate::query::view;

const LIMIT_DEFAULT: i64 = 100;
const LIMIT_MAX: i64 = 1000;

/// A page of checkpoints, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Checkpoints {
    /// The checkpoints.
    checkpoints: Vec<Checkpoint>,
    /// What to give as `after` for the next page; null if there is none.
    next: Option<String>,
}

/// A signed state of a chain.
#[derive(Debug, Serialize, ToSchema)]
struct Checkpoint {
    /// Its id.
    id: String,
    /// The chain.
    chain_id: i16,
    /// Number of its last row.
    size: i64,
    /// Hash of the chain up to that row.
    chain_hash: String,
    /// Hash of the details of the chain up to that row.
    detail_hash: String,
    /// The signed note.
    note: String,
    /// When it was signed.
    #[schema(format = DateTime)]
    signed_at: String,
    /// Where else it is: `stream`, `file`.
    published_to: Vec<String>,
}

/// `chain`, `limit` and `after`.
pub(super) struct CheckpointParameters;

impl IntoParams for CheckpointParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            openapi::number("chain", "Of this chain", 0..=i64::from(i16::MAX)),
            openapi::limit("Checkpoints of a page", LIMIT_DEFAULT, LIMIT_MAX),
            openapi::number("after", "`next` of the page before", 1..=i64::MAX),
        ]
    }
}

/// Signed states of the chains.
#[utoipa::path(get, path = "/v1/audit/checkpoints", tag = "proof", params(CheckpointParameters),
    responses((status = 200, body = Checkpoints)))]
pub(super) async fn checkpoints(
    Extract(state): Shared,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Checkpoints>, Problem> {
    let mut params = Params::new(pairs);
    let chain = params.number("chain", 0..=i64::from(i16::MAX));
    let limit = params.number("limit", 1..=LIMIT_MAX).unwrap_or(LIMIT_DEFAULT);
    let after = params.number("after", 1..=i64::MAX).unwrap_or(i64::MAX);
    params.finish()?;
    let mut checkpoints = state.checkpoints(chain, after, limit + 1).await?;
    let has_more = checkpoints.len() > limit as usize;
    checkpoints.truncate(limit as usize);
    let next = checkpoints.last().filter(|_| has_more).map(|last| last.id.clone());
    Ok(Json(Checkpoints { checkpoints, next }))
}

impl State {
    async fn checkpoints(
        &self,
        chain: Option<i64>,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Checkpoint>, Failure> {
        let select = "select id, chain_id, size, chain_hash, detail_hash, note, signed_at, published_to \
             from auditor.checkpoint where id < $1 and ($2::bigint is null or chain_id = $2) \
             order by id desc limit $3";
        let mut client = self.tables.client().await?;
        let transaction = self.tables.reading(&mut client).await?;
        let rows = transaction
            .query_typed(select, &[(&after, Type::INT8), (&chain, Type::INT8), (&limit, Type::INT8)])
            .await?;
        Ok(rows.iter().map(of_row).collect::<Result<_, _>>()?)
    }
}

fn of_row(row: &Row) -> Result<Checkpoint, tokio_postgres::Error> {
    let signed_at: Timestamp = row.try_get(6)?;
    Ok(Checkpoint {
        id: row.try_get::<_, i64>(0)?.to_string(),
        chain_id: row.try_get(1)?,
        size: row.try_get(2)?,
        chain_hash: hex::encode(row.try_get(3)?),
        detail_hash: hex::encode(row.try_get(4)?),
        note: row.try_get(5)?,
        signed_at: view::time_ms(signed_at.as_millisecond()),
        published_to: row.try_get(7)?,
    })
}
