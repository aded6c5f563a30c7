//! What an error of Postgres means for whoever made the attempt.
//!
//! By SQLSTATE (PostgreSQL, appendix A): what another attempt may cure is transient, what the data
//! is to blame for is permanent, and what only our own statement can be to blame for is a bug.

use std::borrow::Cow;

use deadpool_postgres::PoolError;
use tokio_postgres::Error;

use crate::fault::Fault;

/// Classifies an error of a statement or of a connection.
pub fn of(error: &Error) -> Fault {
    let Some(database) = error.as_db_error() else {
        // No answer from the server: the connection is gone, or never was.
        return if is_ours(error) { Fault::Bug(chain(error).into()) } else { Fault::transient(chain(error)) };
    };
    let code = database.code().code();
    let why = format!("{} ({code})", database.message());
    match &code[..2] {
        // The value, or a constraint that it violates.
        "22" | "23" => Fault::Permanent(Cow::Owned(why)),
        // The statement, or what it relies on: syntax, names, privileges, transaction state.
        // Not 25006, a server that is read-only for now, nor 25P03, a transaction that was idle for
        // too long, nor 25P02, what is behind a statement that failed: of several that were sent at
        // once it may be heard first, and says nothing of the cause.
        "0A" | "25" | "26" | "2D" | "42" if !["25006", "25P02", "25P03"].contains(&code) => {
            Fault::Bug(Cow::Owned(why))
        }
        // Connections, resources, operators, conflicts, and what is not foreseen here.
        _ => Fault::transient(why),
    }
}

/// Classifies why there is no connection.
pub fn of_pool(error: &PoolError) -> Fault {
    match error {
        PoolError::Backend(error) => match of(error) {
            // Wrong password, no such database: somebody can mend it while we wait.
            Fault::Permanent(why) | Fault::Bug(why) => Fault::transient(why),
            fault => fault,
        },
        error => Fault::transient(error.to_string()),
    }
}

/// A value that does not fit its column's type never leaves the client.
fn is_ours(error: &Error) -> bool {
    let text = error.to_string();
    text.starts_with("error serializing parameter") || text.starts_with("error deserializing column")
}

fn chain(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
