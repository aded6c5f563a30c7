//! SIGHUP: tokens and keys are read anew. What is wrong is refused, and the old stays.

use std::sync::Arc;

use anyhow::Context;
use latchline_shared::kit::http::tokens::Tokens;
use latchline_shared::kit::shutdown::Shutdown;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::block_in_place;

use crate::keys::{Keys, KeysConfig};
use crate::service::Auditor;

/// Reloads at each SIGHUP until the shutdown is requested.
pub async fn on_hangup(
    tokens: Arc<Tokens>,
    auditor: Arc<Auditor>,
    keys: KeysConfig,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    // Cancel safety: a signal that is not taken here comes when the process ends anyway.
    while shutdown.token().run_until_cancelled(hangups.recv()).await.flatten().is_some() {
        // Files are read here, on a thread that tokio may do without for a moment.
        block_in_place(|| {
            tell("tokens", tokens.reload().map(drop).map_err(Into::into));
            tell("keys", Keys::load(&keys).map(|keys| auditor.set_keys(keys)).context("keys"));
        });
    }
    Ok(())
}

fn tell(what: &str, reloaded: anyhow::Result<()>) {
    match reloaded {
        Ok(()) => tracing::info!(what, "reloaded"),
        Err(error) => tracing::error!(what, error = format!("{error:#}"), "refused, the old stay"),
    }
}
