//! The providers of a channel: who is next, who is left alone, and how fast they are fed.
//!
//! The first whose breaker lets an attempt begin gets the messages; the next is for when it does not.
//! Where many hosts stand behind one provider, each has a breaker of its own, and so many messages under
//! way as leave places for the others ([`super::crowd`]).
//!
//! Invariant: hosts are remembered while they fail, at most [`HOSTS_MAX`] of them; beyond that a host
//! is tried as if it had never failed.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::breaker::{Breaker, Condition, Leave};
use super::crowd::Crowd;
use super::pace::Pace;
use super::provider::Provider;
use super::settings::Settings;
use crate::channel::Answer;
use crate::event::Channel;
use crate::status::Outcome;

/// Hosts that are remembered.
const HOSTS_MAX: usize = 10_000;
/// So often is said that messages are given up.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// The providers of a channel, in the order in which they are used.
pub struct Desk<P> {
    /// Of this channel.
    pub channel: Channel,
    providers: Vec<P>,
    settings: Settings,
    state: Mutex<State>,
}

struct State {
    /// One for each provider.
    providers: Vec<(Breaker, Pace)>,
    hosts: HashMap<String, Breaker>,
    crowd: Crowd,
    complained_at: Option<Instant>,
}

/// A provider, or a host that fails, as somebody sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What it sends.
    pub channel: Channel,
    /// Its name; of a webhook, the host.
    pub name: String,
    /// How it is doing.
    pub condition: Condition,
}

/// Leave for one attempt, by whom and to where.
#[derive(Debug)]
pub struct Pass {
    provider: usize,
    host: Option<String>,
    leave: Leave,
    began_at: Instant,
}

/// Why an attempt must not begin now, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The provider fails; another may be there.
    Provider(Duration),
    /// The host fails.
    Host(Duration),
    /// The host has as many messages under way as it may; then it is the turn of this one.
    Crowded(Duration),
}

impl<P: Provider> Desk<P> {
    /// All of them are well.
    pub fn new(channel: Channel, providers: Vec<P>, settings: &Settings) -> Self {
        let now = Instant::now();
        let state = |provider: &P| (Breaker::new(settings), Pace::new(provider.rps(), now));
        let state = State {
            providers: providers.iter().map(state).collect(),
            hosts: HashMap::new(),
            crowd: Crowd::default(),
            complained_at: None,
        };
        Self { channel, providers, settings: settings.clone(), state: Mutex::new(state) }
    }

    /// Whether nobody takes messages.
    pub fn is_empty(&self) -> bool {
        self.providers.is_empty()
    }

    /// One of them.
    pub fn provider(&self, pass: &Pass) -> &P {
        &self.providers[pass.provider]
    }

    /// Who gets the next messages and how many, or how long to wait. Nobody: for good.
    pub fn next(&self, now: Instant) -> Result<(usize, &str, usize), Duration> {
        let state = self.state();
        let mut wait = Duration::MAX;
        for (index, (breaker, pace)) in state.providers.iter().enumerate() {
            match breaker.room(now) {
                Ok(room) => {
                    let room = pace.room(now)?.min(room);
                    return Ok((index, self.providers[index].name(), room));
                }
                Err(until) => wait = wait.min(until),
            }
        }
        Err(wait)
    }

    /// An attempt begins, or must not now. A host has at most `host_max` under way.
    pub fn begin(
        &self,
        provider: usize,
        address: &str,
        host_max: usize,
        now: Instant,
    ) -> Result<Pass, Refused> {
        let host = self.providers[provider].host(address);
        let mut state = self.state();
        let State { providers, hosts, crowd, .. } = &mut *state;
        let (breaker, pace) = &mut providers[provider];
        let leave = match &host {
            Some(host) => {
                crowd.room(host, host_max, now).map_err(Refused::Crowded)?;
                let begun = match hosts.get_mut(host) {
                    Some(breaker) => breaker.begin(now),
                    None => Breaker::new(&self.settings).begin(now),
                };
                let leave = begun.map_err(Refused::Host)?;
                crowd.begin(host, now);
                leave
            }
            None => breaker.begin(now).map_err(Refused::Provider)?,
        };
        pace.take(1, now);
        Ok(Pass { provider, host, leave, began_at: now })
    }

    /// An attempt ended; `None`: there was none after all.
    pub fn end(&self, pass: &Pass, answer: Option<&Answer>, now: Instant) {
        let outcome = answer.map(|answer| answer.outcome);
        let mut state = self.state();
        let State { providers, hosts, crowd, .. } = &mut *state;
        if let Some(host) = &pass.host {
            crowd.end(host, now.duration_since(pass.began_at));
        }
        let is_good = outcome.map(|outcome| matches!(outcome, Outcome::Accepted | Outcome::Permanent));
        let breaker = match &pass.host {
            None => &mut providers[pass.provider].0,
            Some(host) => {
                if is_good == Some(false) && !hosts.contains_key(host) {
                    if hosts.len() >= HOSTS_MAX {
                        hosts.retain(|_, breaker| !breaker.is_new(now));
                    }
                    if hosts.len() < HOSTS_MAX {
                        hosts.insert(host.clone(), Breaker::new(&self.settings));
                    }
                }
                let Some(breaker) = hosts.get_mut(host) else { return };
                breaker
            }
        };
        let before = breaker.condition(now);
        match is_good {
            Some(is_good) => breaker.end(pass.leave, is_good, now),
            None => breaker.cancel(pass.leave, now),
        }
        let after = breaker.condition(now);
        self.tell(pass, before, after, answer);
        if let Some(host) = &pass.host
            && hosts.get(host).is_some_and(|breaker| breaker.is_new(now))
        {
            hosts.remove(host);
        }
    }

    /// Says that a provider is left alone, once, and that it is well again.
    fn tell(&self, pass: &Pass, before: Condition, after: Condition, answer: Option<&Answer>) {
        let (channel, provider) = (self.channel, self.name(pass));
        let (code, excerpt) = answer.map_or(("", ""), |answer| (&answer.code, &answer.excerpt));
        match (before, after) {
            // Receivers are users' own; there may be many.
            (Condition::Closed, Condition::Open(_)) if pass.host.is_some() => {
                info!(%channel, provider, code, "a receiver fails, and is left alone");
            }
            (Condition::Closed, Condition::Open(_)) => {
                warn!(%channel, provider, code, excerpt, "a provider fails, and is left alone; messages wait");
            }
            (Condition::HalfOpen, Condition::Closed) => {
                info!(%channel, provider, "a provider takes messages again");
            }
            _ => {}
        }
    }

    /// Whether it is time to say once more that messages are given up: that many are is counted.
    pub fn may_complain(&self, now: Instant) -> bool {
        let mut state = self.state();
        let may = state.complained_at.is_none_or(|at| now.duration_since(at) >= COMPLAIN_EVERY);
        if may {
            state.complained_at = Some(now);
        }
        may
    }

    /// Under which name an attempt is written down.
    pub fn name(&self, pass: &Pass) -> String {
        pass.host.clone().unwrap_or_else(|| self.providers[pass.provider].name().to_owned())
    }

    /// Whether this provider recognises a second copy. One that is not known any more is judged by its
    /// channel.
    pub fn resends_ambiguous(&self, name: &str) -> bool {
        let known = self.providers.iter().find(|provider| provider.name() == name);
        known.map_or(self.channel != Channel::Sms, Provider::resends_ambiguous)
    }

    /// How all of them are doing; of hosts, those that are not well.
    pub fn seen(&self) -> Vec<Seen> {
        let now = Instant::now();
        let mut state = self.state();
        state.hosts.retain(|_, breaker| !breaker.is_new(now));
        let names = self.providers.iter().map(|provider| provider.name().to_owned());
        let providers = names.zip(state.providers.iter().map(|(breaker, _)| breaker.condition(now)));
        let hosts = state.hosts.iter().map(|(host, breaker)| (host.clone(), breaker.condition(now)));
        let hosts = hosts.filter(|(_, condition)| *condition != Condition::Closed);
        let seen = |(name, condition)| Seen { channel: self.channel, name, condition };
        providers.chain(hosts).map(seen).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
