//! One connection of the mail server.

use std::io;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use latchline_shared::kit::clock;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{Behaviour, Mail, Moment, Shared, Step, Tls, lock};

/// Longest line of a command, with room for a long password.
const LINE_BYTES_MAX: u64 = 4_096;
/// Longest message; a longer one ends the connection.
const MESSAGE_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Most recipients of a message.
const RECIPIENTS_MAX: usize = 100;

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// The connection is over: the client went, or it was told to end.
struct Ended;

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self
    }
}

struct Session {
    shared: Arc<Shared>,
    socket: BufReader<Box<dyn Socket>>,
    moment: Moment,
    encrypted: bool,
    user: Option<String>,
}

/// Serves until the client goes.
pub(super) async fn run(stream: TcpStream, shared: Arc<Shared>) {
    let connection = {
        let mut seen = lock(&shared.seen);
        seen.counts.connections += 1;
        seen.counts.connections
    };
    let (socket, encrypted): (Box<dyn Socket>, bool) = match &shared.tls {
        Tls::Immediate(config) => match TlsAcceptor::from(Arc::clone(config)).accept(stream).await {
            Ok(stream) => (Box::new(stream), true),
            Err(_) => return,
        },
        Tls::None | Tls::Starttls(_) => (Box::new(stream), false),
    };
    let (from, to, message_id) = (String::new(), Vec::new(), None);
    let moment = Moment { step: Step::Greeting, connection, message: 0, from, to, message_id };
    let mut session = Session { shared, socket: BufReader::new(socket), moment, encrypted, user: None };
    if session.serve().await.is_ok() {
        let _closed = session.socket.shutdown().await;
    }
}

impl Session {
    async fn serve(&mut self) -> Result<(), Ended> {
        self.answer(Step::Greeting, "220 sink ESMTP").await?;
        loop {
            let line = self.line().await?;
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" => self.ehlo().await?,
                "HELO" => self.answer(Step::Ehlo, "250 sink").await?,
                "STARTTLS" => self.start_tls().await?,
                "AUTH" => self.auth(rest).await?,
                "MAIL" => self.mail(rest).await?,
                "RCPT" => self.rcpt(rest).await?,
                "DATA" => self.data().await?,
                "RSET" => {
                    self.forget();
                    self.say("250 2.0.0 ok").await?;
                }
                "NOOP" => self.say("250 2.0.0 ok").await?,
                "QUIT" => return self.say("221 2.0.0 bye").await,
                _ => self.say("502 5.5.2 no such command").await?,
            }
        }
    }

    async fn ehlo(&mut self) -> Result<(), Ended> {
        self.forget();
        self.moment.step = Step::Ehlo;
        let behaviour = self.shared.behaviour(&self.moment);
        let offers_tls =
            matches!(self.shared.tls, Tls::Starttls(_)) && !self.encrypted && behaviour != Behaviour::NoTls;
        let mut text = "250-sink\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES".to_owned();
        if offers_tls {
            text.push_str("\r\n250-STARTTLS");
        } else {
            text.push_str("\r\n250-AUTH PLAIN");
        }
        text.push_str("\r\n250 SIZE 10485760");
        if self.misbehave(behaviour).await? { Ok(()) } else { self.say(&text).await }
    }

    async fn start_tls(&mut self) -> Result<(), Ended> {
        self.moment.step = Step::StartTls;
        let behaviour = self.shared.behaviour(&self.moment);
        let Tls::Starttls(config) = &self.shared.tls else {
            return self.say("502 5.5.1 not offered").await;
        };
        let acceptor = TlsAcceptor::from(Arc::clone(config));
        if behaviour == Behaviour::NoTls || self.encrypted {
            return self.say("502 5.5.1 not offered").await;
        }
        if self.misbehave(behaviour).await? {
            return Ok(());
        }
        self.say("220 2.0.0 go ahead").await?;
        // What came in clear after STARTTLS is not a command of the encrypted session (CVE-2011-0411).
        if !self.socket.buffer().is_empty() {
            return Err(Ended);
        }
        let closed: Box<dyn Socket> = Box::new(tokio::io::empty());
        let socket = std::mem::replace(&mut self.socket, BufReader::new(closed)).into_inner();
        self.socket = BufReader::new(Box::new(acceptor.accept(socket).await?));
        self.encrypted = true;
        self.forget();
        Ok(())
    }

    async fn auth(&mut self, rest: &str) -> Result<(), Ended> {
        let (mechanism, initial) = rest.split_once(' ').unwrap_or((rest, ""));
        if !mechanism.eq_ignore_ascii_case("PLAIN") {
            return self.say("504 5.5.4 only PLAIN").await;
        }
        let mut response = initial.to_owned();
        if response.is_empty() {
            self.say("334 ").await?;
            response = self.line().await?;
        }
        let decoded = BASE64_STANDARD.decode(&response).unwrap_or_default();
        let Some(user) = decoded.split(|byte| *byte == 0).nth(1) else {
            return self.say("501 5.5.2 cannot be read").await;
        };
        let user = String::from_utf8_lossy(user).into_owned();
        self.moment.step = Step::Auth;
        let behaviour = self.shared.behaviour(&self.moment);
        if self.misbehave(behaviour).await? {
            return Ok(());
        }
        self.user = Some(user);
        self.say("235 2.7.0 welcome").await
    }

    async fn mail(&mut self, rest: &str) -> Result<(), Ended> {
        let Some(from) = path(rest, "FROM:") else { return self.say("501 5.5.4 no path").await };
        if !self.moment.from.is_empty() {
            return self.say("503 5.5.1 one at a time").await;
        }
        self.moment.from = from.to_owned();
        self.moment.message = {
            let mut seen = lock(&self.shared.seen);
            seen.begun += 1;
            seen.begun
        };
        self.moment.step = Step::Mail;
        let behaviour = self.shared.behaviour(&self.moment);
        if self.misbehave(behaviour).await? {
            self.forget();
            return Ok(());
        }
        self.say("250 2.1.0 ok").await
    }

    async fn rcpt(&mut self, rest: &str) -> Result<(), Ended> {
        let Some(to) = path(rest, "TO:") else { return self.say("501 5.5.4 no path").await };
        if self.moment.from.is_empty() {
            return self.say("503 5.5.1 MAIL first").await;
        }
        if self.moment.to.len() == RECIPIENTS_MAX {
            return self.say("452 4.5.3 too many").await;
        }
        self.moment.to.push(to.to_owned());
        self.moment.step = Step::Rcpt;
        let behaviour = self.shared.behaviour(&self.moment);
        if self.misbehave(behaviour).await? {
            self.moment.to.pop();
            return Ok(());
        }
        self.say("250 2.1.5 ok").await
    }

    async fn data(&mut self) -> Result<(), Ended> {
        if self.moment.to.is_empty() {
            return self.say("503 5.5.1 RCPT first").await;
        }
        self.moment.step = Step::Data;
        let behaviour = self.shared.behaviour(&self.moment);
        let begins =
            matches!(behaviour, Behaviour::Hang { at: Step::Data } | Behaviour::Close { at: Step::Data });
        if begins {
            self.say("354 go on").await?;
            // The first part of it.
            self.socket.fill_buf().await?;
        }
        if self.misbehave(behaviour).await? {
            return Ok(());
        }
        self.say("354 go on").await?;
        let raw = self.message().await?;
        self.moment.message_id = message_id(&raw);
        self.moment.step = Step::Body;
        let behaviour = self.shared.behaviour(&self.moment);
        let mail = Mail {
            from: self.moment.from.clone(),
            to: self.moment.to.clone(),
            raw,
            message_id: self.moment.message_id.clone(),
            at_ms: clock::unix_ms(),
            encrypted: self.encrypted,
            user: self.user.clone(),
            answered: true,
        };
        if matches!(behaviour, Behaviour::Hang { at: Step::Body } | Behaviour::Close { at: Step::Body }) {
            self.shared.take(Mail { answered: false, ..mail });
        } else if behaviour.place() != Some(Step::Body) {
            self.shared.take(mail);
        }
        let text = format!("250 2.0.0 taken as {}", self.moment.message);
        let misbehaved = self.misbehave(behaviour).await?;
        self.forget();
        if misbehaved { Ok(()) } else { self.say(&text).await }
    }

    /// The message up to its lonely dot, dots undone.
    async fn message(&mut self) -> Result<Vec<u8>, Ended> {
        let mut raw = Vec::new();
        let mut is_line_start = true;
        loop {
            let mut part = Vec::new();
            (&mut self.socket).take(LINE_BYTES_MAX).read_until(b'\n', &mut part).await?;
            if part.is_empty() || raw.len() + part.len() > MESSAGE_BYTES_MAX {
                return Err(Ended);
            }
            if is_line_start && part == b".\r\n" {
                return Ok(raw);
            }
            let is_stuffed = is_line_start && part.starts_with(b".");
            raw.extend_from_slice(&part[usize::from(is_stuffed)..]);
            is_line_start = raw.ends_with(b"\r\n");
        }
    }

    /// The answer to a step, unless it is to misbehave there.
    async fn answer(&mut self, step: Step, text: &str) -> Result<(), Ended> {
        self.moment.step = step;
        let behaviour = self.shared.behaviour(&self.moment);
        if self.misbehave(behaviour).await? { Ok(()) } else { self.say(text).await }
    }

    /// Does what it is told, if that is here; true: something else was answered.
    async fn misbehave(&mut self, behaviour: Behaviour) -> Result<bool, Ended> {
        if behaviour.place() != Some(self.moment.step) {
            return Ok(false);
        }
        match behaviour {
            Behaviour::Answer { text, .. } => {
                self.say(&text).await?;
                if text.starts_with("421") { Err(Ended) } else { Ok(true) }
            }
            Behaviour::Hang { .. } => self.hang().await,
            Behaviour::Close { .. } => Err(Ended),
            Behaviour::Accept | Behaviour::NoTls => Ok(false),
        }
    }

    /// Until the client goes, or the server is stopped.
    async fn hang(&mut self) -> Result<bool, Ended> {
        loop {
            let length = self.socket.fill_buf().await?.len();
            if length == 0 {
                return Err(Ended);
            }
            self.socket.consume(length);
        }
    }

    fn forget(&mut self) {
        self.moment.from.clear();
        self.moment.to.clear();
        self.moment.message_id = None;
    }

    async fn line(&mut self) -> Result<String, Ended> {
        let mut line = Vec::new();
        (&mut self.socket).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
        let Some(line) = line.strip_suffix(b"\n") else { return Err(Ended) };
        Ok(String::from_utf8_lossy(line).trim_end_matches('\r').to_owned())
    }

    async fn say(&mut self, text: &str) -> Result<(), Ended> {
        self.socket.write_all(format!("{text}\r\n").as_bytes()).await?;
        Ok(self.socket.flush().await?)
    }
}

/// What stands between the brackets after this word.
fn path<'a>(rest: &'a str, word: &str) -> Option<&'a str> {
    let (given, path) = rest.split_at_checked(word.len())?;
    let path = path.trim_start().strip_prefix('<')?;
    given.eq_ignore_ascii_case(word).then(|| path.split_once('>'))?.map(|(path, _)| path)
}

/// The Message-ID of a message, unfolded.
fn message_id(raw: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(raw);
    let head = text.split("\r\n\r\n").next().unwrap_or_default().replace("\r\n ", " ").replace("\r\n\t", " ");
    let id = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("message-id").then(|| value.trim().to_owned())
    });
    id.filter(|id| !id.is_empty())
}
