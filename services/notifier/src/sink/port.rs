//! A listening socket whose connections can be cut, and which can be opened again on the same port.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 1_024;
/// After an accept that failed, most likely for want of files.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// The socket. Dropping it ends its tasks.
pub(super) struct Port {
    pub(super) address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Port {
    /// Listens, and gives each connection to `serve`. Port 0 is any that is free; `address` tells.
    pub(super) async fn open<F, S>(address: SocketAddr, serve: F) -> io::Result<Self>
    where
        F: Fn(TcpStream) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await?;
        let port = Self {
            address: listener.local_addr()?,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let (stop, tasks) = (port.stop.clone(), port.tasks.clone());
        port.tasks.spawn(async move {
            // Cancel safety: what accept has not returned yet goes with the listener.
            stop.run_until_cancelled(accept(listener, serve, &stop, &tasks)).await;
        });
        Ok(port)
    }

    /// Cuts all connections; nobody listens when this returns.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Runs until it is cancelled.
async fn accept<F, S>(listener: TcpListener, serve: F, stop: &CancellationToken, tasks: &TaskTracker)
where
    F: Fn(TcpStream) -> S,
    S: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (connection, stop) = (serve(stream), stop.clone());
                tasks.spawn(async move {
                    stop.run_until_cancelled(connection).await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_RETRY_DELAY).await,
        }
    }
}
