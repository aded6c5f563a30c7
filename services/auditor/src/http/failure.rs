//! What a caller learns when Postgres fails: that it did, and whether to try again. Nothing of what
//! it says gets out; it is logged, once.

use axum::http::StatusCode;
use deadpool_postgres::PoolError;
use latchline_shared::fault::Fault;
use latchline_shared::kit::http::problem::Problem;
use latchline_shared::kit::postgres::fault;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use tracing::{error, warn};

use crate::history::Unreadable;
use crate::query::page::ReadError;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// It would take too long.
    TooSlow,
    /// Postgres, or the way to it.
    Postgres(Fault),
    /// A row is not what was written.
    Unreadable(Unreadable),
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

impl From<Unreadable> for Failure {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(unreadable)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Postgres(error) => error.into(),
            ReadError::Unreadable(unreadable) => unreadable.into(),
        }
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
                warn!(error = %fault, "history cannot be read");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "")
            }
            Failure::Postgres(fault) => {
                error!(error = %fault, "history cannot be read");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "")
            }
            Failure::Unreadable(row) => {
                error!(error = %row, "history was changed");
                let detail = format!("row {} of chain {} is not what was written", row.seq, row.chain_id);
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
            }
        }
    }
}
