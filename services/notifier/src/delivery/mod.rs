//! From a row to a provider's answer: leases, attempts, and what follows from how they ended.
//!
//! A dispatcher for each channel ([`dispatch`]) leases rows that are due ([`queue`]), fills templates,
//! hands messages to a provider ([`desk`]) and writes down how that ended ([`attempt`], [`mod@ends`]); what
//! follows from that is decided by [`policy`]. A keeper ([`keeper`]) settles attempts whose owner died.
//!
//! Guarantees: what was committed is tried until a provider has taken it, refused it for good or too
//! often, or it is too old; each end is written down and counted. What may have arrived is not sent
//! again where a second copy would be a second message (SMS without a key, not critical).
//! Non-guarantees: e-mail and webhooks that may have arrived come again, with the id that they had. A
//! lease whose answer from Postgres is lost counts as an attempt that may have arrived.

pub mod provider;
pub mod settings;

pub mod breaker;
pub mod crowd;
pub mod pace;
pub mod policy;

pub mod queue;

pub mod attempt;
pub mod desk;
pub mod dispatch;
pub mod ends;
pub mod keeper;
pub mod metrics;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use latchline_shared::kit::postgres::listen::Wakes;
use tokio_util::sync::CancellationToken;

use self::attempt::{Bench, Render};
use self::desk::Desk;
use self::dispatch::{Dispatcher, Slots};
use self::ends::Ends;
use self::keeper::{Keeper, Watch};
use self::metrics::Metrics;
use self::provider::Provider;
use self::queue::{Leased, Told};
use self::settings::Settings;
use crate::channel::Content;
use crate::channel::email::Relay;
use crate::channel::sms::Gateway;
use crate::channel::webhook::Receiver;
use crate::event::Channel;
use crate::template::{Rendered, Templates};

/// The channel of Postgres on which is said that there are rows.
pub const NEWS: &str = "latchline_notifier";

/// Who takes messages; none: nothing of the channel is sent, and its rows expire.
pub struct Providers {
    /// Mail servers, in the order in which they are used.
    pub email: Vec<Relay>,
    /// SMS gateways, in the order in which they are used.
    pub sms: Vec<Gateway>,
    /// Receivers of webhooks.
    pub webhook: Option<Receiver>,
}

/// How much at once, by channel.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// E-mail.
    pub email: Slots,
    /// SMS.
    pub sms: Slots,
    /// Webhooks.
    pub webhook: Slots,
    /// From the wish to end to the end: what is under way by then is left to its lease.
    pub drain: Duration,
}

impl Limits {
    /// Those of the tables `[email]`, `[sms]` and `[webhook]`, and of `shutdown_deadline_ms`.
    pub fn new(
        email: &crate::channel::email::settings::Settings,
        sms: &crate::channel::sms::settings::Settings,
        webhook: &crate::channel::webhook::settings::Settings,
        shutdown_deadline: Duration,
    ) -> Self {
        let gateways = sms.gateways.iter().map(|gateway| gateway.connect_timeout + gateway.timeout);
        Self {
            email: Slots {
                ordinary: email.concurrency,
                critical: email.concurrency_critical,
                timeout: Relay::timeout(email),
            },
            sms: Slots {
                ordinary: sms.concurrency,
                critical: sms.concurrency_critical,
                timeout: gateways.max().unwrap_or_default() + SLACK,
            },
            webhook: Slots {
                ordinary: webhook.concurrency,
                critical: webhook.concurrency_critical,
                timeout: webhook.connect_timeout + webhook.timeout + SLACK,
            },
            // Before the process is ended, so that it ends in order.
            drain: shutdown_deadline.mul_f64(0.75),
        }
    }
}

/// Providers end by themselves; this much later they are ended.
const SLACK: Duration = Duration::from_secs(2);

/// Sends what is in the table.
pub struct Delivery {
    pool: Pool,
    owner: String,
    settings: Settings,
    limits: Limits,
    render: Render,
    metrics: Metrics,
    wakes: Wakes,
    email: Arc<Desk<Relay>>,
    sms: Arc<Desk<Gateway>>,
    webhook: Arc<Desk<Receiver>>,
}

impl Delivery {
    /// `pool` has the schema in its search path; `wakes` is of a listener on [`NEWS`].
    pub fn new(
        settings: &Settings,
        limits: Limits,
        pool: Pool,
        providers: Providers,
        templates: Arc<Templates>,
        metrics: Metrics,
        wakes: Wakes,
    ) -> Self {
        Self {
            pool,
            owner: owner(),
            settings: settings.clone(),
            limits,
            render: render(templates),
            metrics,
            wakes,
            email: Arc::new(Desk::new(Channel::Email, providers.email, settings)),
            sms: Arc::new(Desk::new(Channel::Sms, providers.sms, settings)),
            webhook: Arc::new(Desk::new(Channel::Webhook, providers.webhook.into_iter().collect(), settings)),
        }
    }

    /// How providers are doing, whenever it is asked.
    pub fn watch(&self) -> Watch {
        let (email, sms, webhook) =
            (Arc::clone(&self.email), Arc::clone(&self.sms), Arc::clone(&self.webhook));
        Arc::new(move || [email.seen(), sms.seen(), webhook.seen()].concat())
    }

    /// Works until the token is cancelled, and finishes what is under way.
    pub async fn run(self, token: CancellationToken) -> anyhow::Result<()> {
        let (email, sms, webhook) =
            (Arc::clone(&self.email), Arc::clone(&self.sms), Arc::clone(&self.webhook));
        let resends = move |channel, provider: &str| match channel {
            Channel::Email => email.resends_ambiguous(provider),
            Channel::Sms => sms.resends_ambiguous(provider),
            Channel::Webhook => webhook.resends_ambiguous(provider),
        };
        let keeper = Keeper {
            pool: self.pool.clone(),
            settings: self.settings.clone(),
            metrics: self.metrics.clone(),
            resends: Arc::new(resends),
            watch: self.watch(),
        };
        let Limits { email, sms, webhook, .. } = self.limits;
        // Whichever fails, what the others have under way is finished.
        let token = token.child_token();
        let (kept, mailed, texted, called) = tokio::join!(
            ends(&token, keeper.run(token.clone())),
            ends(&token, self.dispatch(&self.email, email, &token)),
            ends(&token, self.dispatch(&self.sms, sms, &token)),
            ends(&token, self.dispatch(&self.webhook, webhook, &token)),
        );
        kept.and(mailed).and(texted).and(called)
    }

    async fn dispatch<P: Provider>(
        &self,
        desk: &Arc<Desk<P>>,
        slots: Slots,
        token: &CancellationToken,
    ) -> anyhow::Result<()> {
        if desk.is_empty() {
            return Ok(());
        }
        let bench = Bench {
            desk: Arc::clone(desk),
            pool: self.pool.clone(),
            owner: self.owner.clone(),
            settings: self.settings.clone(),
            timeout: slots.timeout,
            render: Arc::clone(&self.render),
            metrics: self.metrics.clone(),
            ends: Ends::default(),
        };
        Dispatcher::new(bench, slots, self.limits.drain, self.wakes.clone()).run(token.clone()).await
    }
}

/// Ends the others if it fails.
async fn ends(
    token: &CancellationToken,
    part: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let result = part.await;
    if result.is_err() {
        token.cancel();
    }
    result
}

/// A name that no other process has, and that says which one it is.
fn owner() -> String {
    format!("{}-{:016x}{:016x}", std::process::id(), attempt::random(), attempt::random())
}

fn render(templates: Arc<Templates>) -> Render {
    Arc::new(move |channel, row: &Leased, told: &Told| {
        let Told { event_type, severity, facts } = told;
        let id = row.attempt.id;
        let rendered =
            templates.render(channel, *event_type, *severity, &row.locale, &row.zone, id, facts)?;
        Ok(match rendered {
            Rendered::Email { subject, text, html } => Content::Email { subject, text, html },
            Rendered::Sms { text } => Content::Sms { text },
            Rendered::Webhook { body } => Content::Webhook { body, secret: row.secret.clone() },
        })
    })
}
