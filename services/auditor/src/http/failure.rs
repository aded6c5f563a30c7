//! Why there is no answer, and what a caller learns of it.

use axum::http::StatusCode;
use deadpool_postgres::PoolError;
use latchline_shared::fault::Fault;
use latchline_shared::kit::api;
use latchline_shared::kit::http::problem::Problem;
use tokio_postgres::Error;
use tracing::error;

use crate::history::Unreadable;
use crate::query::page::ReadError;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// Postgres gave none.
    Postgres(api::failure::Failure),
    /// A row is not what was written.
    Unreadable(Unreadable),
}

impl From<api::failure::Failure> for Failure {
    fn from(failure: api::failure::Failure) -> Self {
        Self::Postgres(failure)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Postgres(error.into())
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        Self::Postgres(error.into())
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Postgres(fault.into())
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
            Failure::Postgres(failure) => failure.into(),
            Failure::Unreadable(row) => {
                error!(error = %row, "history was changed");
                let detail = format!("row {} of chain {} is not what was written", row.seq, row.chain_id);
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
            }
        }
    }
}
