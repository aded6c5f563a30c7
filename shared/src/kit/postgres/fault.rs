//! What an error of Postgres means for whoever made the attempt.
//!
//! By SQLSTATE (PostgreSQL, appendix A): what another attempt may cure is transient, what the data
//! is to blame for is permanent, and what only our own statement can be to blame for is a bug.

use std::borrow::Cow;

use deadpool_postgres::PoolError;
use tokio_postgres::Error;

use crate::fault::Fault;

/// What the server says to whatever is behind a statement that failed, until the transaction ends.
const ABORTED: &str = "25P02";

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
        // too long, nor 25P02, which says nothing of the cause: see [`both`].
        "0A" | "25" | "26" | "2D" | "42" if !["25006", ABORTED, "25P03"].contains(&code) => {
            Fault::Bug(Cow::Owned(why))
        }
        // Connections, resources, operators, conflicts, and what is not foreseen here.
        _ => Fault::transient(why),
    }
}

/// Both results of what was sent together in one transaction. Of two errors it is the cause that counts,
/// not what follows from it, whichever was heard first: by the cause it is decided whether to try again.
///
/// Both must have been waited for (`join!`, not `try_join!`).
pub fn both<A, B>(one: Result<A, Fault>, other: Result<B, Fault>) -> Result<(A, B), Fault> {
    match (one, other) {
        (Ok(one), Ok(other)) => Ok((one, other)),
        (Err(one), Err(other)) => Err(if is_consequence(&one) { other } else { one }),
        (Err(fault), Ok(_)) | (Ok(_), Err(fault)) => Err(fault),
    }
}

fn is_consequence(fault: &Fault) -> bool {
    matches!(fault, Fault::Transient { why, .. } if why.ends_with(&format!("({ABORTED})")))
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
