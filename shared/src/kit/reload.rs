//! SIGHUP: what a process reads from files (tokens, keys, certificates) is read anew. What is wrong
//! is refused, and the old stays.

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::block_in_place;
use tracing::{error, info};

use crate::kit::shutdown::Shutdown;

/// What is read anew, by name. Each either takes effect as a whole or changes nothing, and may
/// block on the disk.
pub type Reloads = Vec<(&'static str, Box<dyn Fn() -> anyhow::Result<()> + Send>)>;

/// Reloads at each SIGHUP until the shutdown is requested. Needs the runtime with several threads.
pub async fn on_hangup(reloads: Reloads, shutdown: Shutdown) -> anyhow::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    // Cancel safety: a signal that is not taken here comes when the process ends anyway.
    while shutdown.token().run_until_cancelled(hangups.recv()).await.flatten().is_some() {
        for (what, reload) in &reloads {
            // Files are read here, on a thread that tokio may do without for a moment.
            match block_in_place(reload) {
                Ok(()) => info!(what, "reloaded"),
                Err(error) => error!(what, error = format!("{error:#}"), "refused, the old stay"),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::kit::testing::eventually;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_refused_keeps_nothing_else_from_being_reloaded() {
        // From here on the signal does not end the process.
        let _hangups = signal(SignalKind::hangup()).unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let reloads: Reloads = vec![
            ("tokens", Box::new(|| anyhow::bail!("on purpose"))),
            (
                "keys",
                Box::new(move || {
                    counted.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                }),
            ),
        ];
        let shutdown = Shutdown::new();
        let task = tokio::spawn(on_hangup(reloads, shutdown.clone()));
        // The shell's own kill: the command of that name is not on every machine.
        let kill = format!("kill -s HUP {}", std::process::id());
        for times in 1..=2 {
            // Signals count only once it listens, and several may become one.
            eventually(Duration::from_secs(30), "reloaded", async || {
                assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
                count.load(Ordering::SeqCst) >= times
            })
            .await;
        }
        shutdown.request();
        task.await.unwrap().unwrap();
    }
}
