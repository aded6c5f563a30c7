//! The whole system: Kafka, Postgres, broker, auditor, monitor, notifier, and what takes mails and SMS.
//!
//! Each part can be killed, stopped and started again by itself.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::checker::ledger::Part;
use crate::kafka::Kafka;
use crate::sink::{Page, mail, sms};
use crate::site::{Api, Site};
use crate::stack::audit::Audit;
use crate::stack::clocks::{Clocks, LEFTOVERS};
use crate::stack::ground::{Disks, Ground};
use crate::stack::monitor::Monitor;
use crate::stack::notifier::{NO_LIMITS, Notifier, User};
use crate::stack::postgres::Postgres;
use crate::stack::program::Program;
use crate::stack::service::LISTENERS;
use crate::stack::{Settings, Stack};

/// What differs from the usual.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wishes<'a> {
    /// Who is told.
    pub users: &'a [User],
    /// Whether it shall be at the well-known ports, those of them that are free; else at any.
    pub well_known_ports: bool,
    /// Settings of the broker.
    pub broker: Settings<'a>,
    /// Settings of the auditor.
    pub auditor: Settings<'a>,
    /// Settings of the monitor.
    pub monitor: Settings<'a>,
    /// Thresholds of the monitor.
    pub rules: &'a str,
    /// Settings of the notifier.
    pub notifier: Settings<'a>,
}

const HTTP: &str = "http.address";
/// Three services that open their connections at once on a busy machine are slow, not broken.
const PATIENT: (&str, &str) = ("postgres.connect_timeout_ms", "30000");
const BROKER_PORTS: [(&str, u16); 3] = [("listen.tcp", 1883), ("listen.ws", 8083), (HTTP, 18083)];

impl Wishes<'_> {
    /// These settings, and before them the well-known ports if they are wished for and free.
    fn at(&self, ports: &[(&str, u16)], settings: Settings) -> Vec<(String, String)> {
        let ports = ports.iter().map(|(key, port)| (*key, loopback(*port)));
        let free = ports.filter(|(_, address)| self.well_known_ports && is_free(*address));
        let free = free.map(|(key, address)| (key.to_owned(), address.to_string()));
        free.chain(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))).collect()
    }

    /// Where a page shall be.
    fn page(&self, port: u16) -> SocketAddr {
        let address = loopback(port);
        if self.well_known_ports && is_free(address) { address } else { loopback(0) }
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

fn borrowed(settings: &[(String, String)]) -> Vec<(&str, &str)> {
    settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

/// A running system. What is running ends when it is dropped, what depends on something before it.
pub struct Whole {
    /// What tells users, with its mail server and SMS gateway.
    pub notifier: Notifier,
    /// What raises alarms.
    pub monitor: Monitor,
    /// What keeps the history.
    pub audit: Audit,
    /// The broker, and Kafka.
    pub stack: Stack,
    /// Where the three services keep what they know.
    pub postgres: Postgres,
    mails: Page,
    texts: Page,
    /// The disks that the data are on, where they can be filled up. After those who write on them.
    pub disks: Option<Disks>,
    /// The clocks of the services, where they can be stepped.
    pub clocks: Option<Clocks>,
}

/// What is left of a ground when a broker has its Kafka.
struct Beneath {
    postgres: Postgres,
    disks: Option<Disks>,
    clocks: Option<Clocks>,
}

impl Whole {
    /// Starts all of it; ready when every part says so.
    pub async fn start(kafka: Kafka, wishes: Wishes<'_>) -> anyhow::Result<Self> {
        Self::start_on(Ground::firm(kafka).await?, wishes).await
    }

    /// As [`Whole::start`], on what is there already.
    pub async fn start_on(ground: Ground, wishes: Wishes<'_>) -> anyhow::Result<Self> {
        // Dropped from the last to the first: who writes on a disk ends before it goes.
        let Ground { clocks, disks, postgres, kafka } = ground;
        let broker = wishes.at(&BROKER_PORTS, wishes.broker);
        let stack = Stack::start_with(kafka, &borrowed(&broker)).await?;
        Self::start_around(stack, Beneath { postgres, disks, clocks }, wishes).await
    }

    /// As [`Whole::start`], around a broker and a Kafka that run already, on this Postgres.
    pub async fn start_beside(stack: Stack, postgres: Postgres, wishes: Wishes<'_>) -> anyhow::Result<Self> {
        Self::start_around(stack, Beneath { postgres, disks: None, clocks: None }, wishes).await
    }

    async fn start_around(stack: Stack, beneath: Beneath, wishes: Wishes<'_>) -> anyhow::Result<Self> {
        // Dropped from the last to the first, as in `start_on`.
        let (Beneath { clocks, disks, postgres }, stack) = (beneath, stack);
        let surround = |name, program: &mut Program| {
            if let Some(clocks) = &clocks {
                program.surround(clocks.environment(name)?);
                program.leaves(LEFTOVERS);
            }
            anyhow::Ok(())
        };
        // Each is started before the next looks for its port: what was free a while ago may be taken.
        let settings = wishes.at(&[(HTTP, 8101)], &[&[PATIENT], wishes.auditor].concat());
        let (kafka, secrets) = (&stack.kafka, &stack.secrets);
        let mut audit = Audit::prepare(postgres.clone(), kafka, secrets, &borrowed(&settings)).await?;
        audit.use_token(secrets.token.clone())?;
        surround(Part::Auditor.name(), &mut audit.auditor)?;
        audit.auditor.start(&LISTENERS).await?;
        let settings = wishes.at(&[(HTTP, 8102)], &[&[PATIENT], wishes.monitor].concat());
        let mut monitor =
            Monitor::prepare(postgres.clone(), kafka, wishes.rules, &borrowed(&settings)).await?;
        monitor.use_token(secrets.token.clone())?;
        surround(Part::Monitor.name(), &mut monitor.monitor)?;
        monitor.monitor.start(&LISTENERS).await?;
        let settings = wishes.at(&[(HTTP, 8103)], &[&[PATIENT], &NO_LIMITS[..], wishes.notifier].concat());
        let mut notifier =
            Notifier::prepare(postgres.clone(), kafka, wishes.users, &borrowed(&settings)).await?;
        notifier.use_token(secrets.token.clone())?;
        surround(Part::Notifier.name(), &mut notifier.notifier)?;
        notifier.notifier.start(&LISTENERS).await?;
        tokio::try_join!(audit.ready(), monitor.ready(), notifier.ready())?;
        let mails = Page::start(wishes.page(8025), mail::source(&notifier.mail)).await?;
        let texts = Page::start(wishes.page(8026), sms::source(&notifier.sms)).await?;
        Ok(Self { notifier, monitor, audit, stack, postgres, mails, texts, disks, clocks })
    }

    /// Where everything is.
    pub fn site(&self) -> anyhow::Result<Site> {
        let token = Some(self.stack.secrets.token.as_str());
        let http = |address: &str, token| Api::new(format!("http://{address}"), token);
        Ok(Site {
            mqtt: self.stack.mqtt(),
            websocket: format!("ws://{}/mqtt", self.stack.broker.address("ws")),
            broker: http(&self.stack.broker.address("http").to_string(), token),
            auditor: http(self.audit.address()?, token),
            monitor: http(self.monitor.address()?, token),
            notifier: http(self.notifier.address()?, token),
            mail: http(&self.mails.address().to_string(), None),
            sms: http(&self.texts.address().to_string(), None),
            kafka: Some(self.stack.kafka.bootstrap()),
            secrets: self.stack.secrets.clone(),
        })
    }

    /// Ends the programs in order, what depends on something before it, and checks their logs.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        self.stop().await
    }

    /// As [`Whole::finish`], for who has questions afterwards.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let Self { notifier, monitor, audit, stack, .. } = self;
        let programs = [&mut notifier.notifier, &mut monitor.monitor, &mut audit.auditor, &mut stack.broker];
        for program in programs {
            program.stop().await?;
            program.check_log()?;
        }
        Ok(())
    }
}
