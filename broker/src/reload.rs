//! SIGHUP: credentials and certificates are read anew. What cannot be read is refused, and the old
//! stays. Clients whose credentials were revoked are disconnected.

use std::sync::Arc;

use latchline_shared::kit::shutdown::Shutdown;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::block_in_place;

use crate::hooks::access::AccessControl;
use crate::server::Server;
use crate::session::mailbox::Signal;

/// Reloads at each SIGHUP until the shutdown is requested.
pub async fn on_hangup(
    server: Arc<Server>,
    access: Arc<AccessControl>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    // Cancel safety: a signal that is not taken here comes when the process ends anyway.
    while shutdown.token().run_until_cancelled(hangups.recv()).await.flatten().is_some() {
        // Files are read here, on a thread that tokio may do without for a moment.
        let reloaded = block_in_place(|| {
            access.reload();
            server.reload()
        });
        match reloaded {
            Ok(()) => tracing::info!("reloaded"),
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "certificates refused, the old ones stay")
            }
        }
        disconnect_revoked(&server, &access);
    }
    Ok(())
}

fn disconnect_revoked(server: &Server, access: &AccessControl) {
    let registry = &server.broker.registry;
    for client in registry.online() {
        if access.is_revoked(&client) {
            tracing::info!(client = &*client.id, "disconnected: credentials revoked");
            registry.signal(&client.id, Signal::Kick);
        }
    }
}
