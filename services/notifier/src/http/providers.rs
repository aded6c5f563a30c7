//! `GET /v1/providers`: who sends our messages, how they are doing, and what waits for them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State as Extract};
use latchline_shared::kit::api::failure::Failure;
use latchline_shared::kit::api::params::Params;
use latchline_shared::kit::http::problem::Problem;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Pairs, Shared};
use crate::delivery::breaker::Condition;
use crate::delivery::queue::backlog::{self, Backlog};
use crate::event::Channel;

/// Says how providers are doing now, as this process sees it.
pub type Watch = Arc<dyn Fn() -> Vec<Provider> + Send + Sync>;

/// A provider, as this process sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    /// What it sends.
    pub channel: Channel,
    /// Its name in the configuration; of a webhook, the host.
    pub name: String,
    /// How it is doing.
    pub condition: Condition,
}

/// How a provider is doing.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Provider)]
pub(super) struct ProviderView {
    /// `email`, `sms` or `webhook`.
    channel: &'static str,
    /// Its name in the configuration; of a webhook, the receiver's host.
    name: String,
    /// `closed`: messages are sent. `open`: it failed too often and is left alone. `half_open`: one
    /// message is tried.
    breaker: &'static str,
    /// While it is left alone: for so many more seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    open_s: Option<f64>,
}

impl From<Provider> for ProviderView {
    fn from(provider: Provider) -> Self {
        let (breaker, open_s) = match provider.condition {
            Condition::Closed => ("closed", None),
            Condition::HalfOpen => ("half_open", None),
            Condition::Open(rest) => ("open", Some(rest.as_secs_f64())),
        };
        Self { channel: provider.channel.name(), name: provider.name, breaker, open_s }
    }
}

/// Providers, and what waits.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Providers {
    /// Those of the process that answers; of receivers of webhooks, those that fail.
    providers: Vec<ProviderView>,
    /// What waits, for all processes together.
    backlog: Vec<Backlog>,
}

/// How providers are doing, and what waits for them.
#[utoipa::path(get, path = "/v1/providers", tag = "providers", responses((status = 200, body = Providers)))]
pub(super) async fn list(Extract(state): Shared, Query(pairs): Pairs) -> Result<Json<Providers>, Problem> {
    Params::new(pairs).finish()?;
    let mut client = state.tables.client().await?;
    let transaction = state.tables.reading(&mut client).await?;
    let backlog = backlog::measure(&transaction).await.map_err(Failure::from)?;
    let providers = (state.api.providers)().into_iter().map(ProviderView::from).collect();
    Ok(Json(Providers { providers, backlog }))
}
