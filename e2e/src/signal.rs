//! Being told to end: whoever starts processes and mounts ends them before himself, so he listens.

use tokio::signal::unix::{SignalKind, signal};

/// Ready with the name of the first signal that tells this process to end.
pub async fn ended() -> anyhow::Result<&'static str> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
        _ = hang_up.recv() => "SIGHUP",
    })
}
