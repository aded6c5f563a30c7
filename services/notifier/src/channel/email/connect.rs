//! A connection to a mail server: reached, encrypted, let in.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use anyhow::{Context, ensure};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, AsyncTokioStream, Certificate, CertificateStore, TlsParameters,
};
use lettre::transport::smtp::extension::ClientId;
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answer::{Phase, of_error, silence};
use super::settings::{RelaySettings, Tls};
use crate::channel::Answer;

/// How passwords are shown; both in the clear, so never without encryption.
const MECHANISMS: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];
/// First byte of what a client says in TLS: a handshake. No command begins with it.
const HANDSHAKE: u8 = 0x16;

/// Makes connections to one server.
pub(super) struct Door {
    host: String,
    port: u16,
    tls: Tls,
    parameters: TlsParameters,
    credentials: Option<Credentials>,
    hello: ClientId,
    timeout: Duration,
}

impl Door {
    /// Reads the files of the settings.
    pub(super) fn new(settings: &RelaySettings, hello: &str, timeout: Duration) -> anyhow::Result<Self> {
        let mut parameters = TlsParameters::builder(settings.host.clone());
        if let Some(path) = &settings.ca_file {
            let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            ensure!(
                pem.windows(27).any(|window| window == b"-----BEGIN CERTIFICATE-----"),
                "{} holds no certificate",
                path.display()
            );
            let authority = Certificate::from_pem(&pem).with_context(|| format!("{}", path.display()))?;
            parameters = parameters.certificate_store(CertificateStore::None).add_root_certificate(authority);
        }
        let credentials = settings.credentials()?;
        Ok(Self {
            host: settings.host.clone(),
            port: settings.port,
            tls: settings.tls,
            parameters: parameters.build().context("authorities")?,
            credentials: credentials
                .map(|(user, password)| Credentials::new(user, password.expose_secret().to_owned())),
            hello: ClientId::Domain(hello.to_owned()),
            timeout,
        })
    }

    /// One more. Whatever goes wrong: the server got nothing.
    pub(super) async fn connect(&self) -> Result<AsyncSmtpConnection, Answer> {
        match timeout(self.timeout, self.open()).await {
            Ok(connection) => connection,
            Err(_) => Err(silence(Phase::Connect, "timeout", "not connected in time")),
        }
    }

    async fn open(&self) -> Result<AsyncSmtpConnection, Answer> {
        let failed = |error: Error| of_error(Phase::Connect, &error, "");
        let mut connection = match self.tls {
            // The server's name is proven from the first byte on.
            Tls::Tls => {
                let place = (self.host.as_str(), self.port);
                let parameters = Some(self.parameters.clone());
                boxed(AsyncSmtpConnection::connect_tokio1(place, None, &self.hello, parameters, None))
                    .await
                    .map_err(failed)?
            }
            Tls::Starttls | Tls::None => {
                let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
                let stream =
                    stream.map_err(|error| silence(Phase::Connect, "connection", &error.to_string()))?;
                let socket = Box::new(Socket { stream, is_slow: self.tls == Tls::Starttls });
                boxed(AsyncSmtpConnection::connect_with_transport(socket, &self.hello))
                    .await
                    .map_err(failed)?
            }
        };
        if self.tls == Tls::Starttls {
            if !connection.can_starttls() {
                return Err(silence(Phase::Connect, "starttls", "it does not offer STARTTLS"));
            }
            let encrypted = boxed(connection.starttls(self.parameters.clone(), &self.hello)).await;
            encrypted.map_err(failed)?;
        }
        if let Some(credentials) = &self.credentials {
            let let_in = boxed(connection.auth(&MECHANISMS, credentials)).await;
            let_in.map_err(failed)?;
        }
        Ok(connection)
    }
}

/// A large future of the library, kept off the stack of ours.
fn boxed<'a, T>(future: impl Future<Output = T> + Send + 'a) -> Pin<Box<dyn Future<Output = T> + Send + 'a>> {
    Box::pin(future)
}

/// A socket that gives away one byte at a time until encryption begins. The library reads ahead and
/// keeps what it has when it begins: words that somebody on the way has put behind the answer to
/// STARTTLS would be taken for the server's. Like this they go into the handshake, which fails.
#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    is_slow: bool,
}

impl AsyncTokioStream for Socket {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_slow || buffer.remaining() == 0 {
            return Pin::new(&mut self.stream).poll_read(task, buffer);
        }
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        ready!(Pin::new(&mut self.stream).poll_read(task, &mut one))?;
        buffer.put_slice(one.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Task<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.first() == Some(&HANDSHAKE) {
            self.is_slow = false;
        }
        Pin::new(&mut self.stream).poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
