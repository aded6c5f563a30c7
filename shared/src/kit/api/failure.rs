//! What a caller learns when Postgres fails: that it did, and whether to try again. Nothing of what
//! it says gets out; it is logged, once.

use axum::http::StatusCode;
use deadpool_postgres::PoolError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use tracing::{error, warn};

use crate::fault::Fault;
use crate::kit::http::problem::Problem;
use crate::kit::postgres::fault;

/// Why Postgres gave no answer.
#[derive(Debug)]
pub enum Failure {
    /// It would take too long.
    TooSlow,
    /// Postgres, or the way to it.
    Postgres(Fault),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.code() {
            Some(&SqlState::QUERY_CANCELED) => Self::TooSlow,
            _ => Self::Postgres(fault::of(&error)),
        }
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        Self::Postgres(fault::of_pool(&error))
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Postgres(fault)
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::TooSlow => {
                warn!("a query took too long");
                let detail = "the query takes too long: narrow since and until, or add a filter";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            }
            Failure::Postgres(fault @ Fault::Transient { .. }) => {
                warn!(error = %fault, "postgres cannot answer a request now");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "")
            }
            Failure::Postgres(fault) => {
                error!(error = %fault, "postgres refuses what a request needs");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "")
            }
        }
    }
}
