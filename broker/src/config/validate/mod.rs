//! What is wrong with a configuration although its types are right, and which settings fight.
//!
//! Each problem begins with the key path, and says what to do. Pure but for the files that the
//! broker reads at start, which must open.

use std::net::SocketAddr;

use latchline_shared::kit::config::{Validate, value};
use latchline_shared::topic;
use secrecy::ExposeSecret;

use super::{
    Access, AccessRule, Action, ClientCertificate, Config, Effect, Guard, GuardMode, Limits, Listen,
};
use crate::hooks::guard::keys;

/// Largest packet that MQTT can express: the largest remaining length, and its header.
const PACKET_BYTES_LIMIT: u32 = 268_435_455 + 5;

/// Smallest sensible `packet_bytes_max`: a CONNECT with id, user name and password must fit.
const PACKET_BYTES_LEAST: u32 = 1_024;

impl Validate for Config {
    fn problems(&self, problems: &mut Vec<String>) {
        if !matches!(self.node.split_once('@'), Some((name, host)) if !name.is_empty() && !host.is_empty()) {
            problems.push("node: must be name@host".to_owned());
        }
        self.listen.problems(problems);
        self.limits.problems(problems);
        self.access.problems(problems);
        self.guard.problems(&self.access, problems);
        self.http.server.problems(problems);
        self.http.token.problems(problems);
        self.log.problems(problems);
        if self
            .http
            .server
            .address
            .is_some_and(|http| self.listen.addresses().any(|(_, other)| clash(http, other)))
        {
            problems.push("http.address: is also the address of a listener".to_owned());
        }
    }
}

impl Listen {
    fn addresses(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        [("tcp", self.tcp), ("tls", self.tls), ("ws", self.ws), ("wss", self.wss)]
            .into_iter()
            .filter_map(|(name, address)| Some((name, address?)))
    }

    fn problems(&self, problems: &mut Vec<String>) {
        self.address_problems(problems);
        self.certificate_problems(problems);
    }

    fn address_problems(&self, problems: &mut Vec<String>) {
        let addresses: Vec<_> = self.addresses().collect();
        if addresses.is_empty() {
            problems.push("listen: no listener is set, set tcp, tls, ws or wss".to_owned());
        }
        for (index, (name, address)) in addresses.iter().enumerate() {
            for (other_name, other) in &addresses[..index] {
                if clash(*address, *other) {
                    problems.push(format!("listen.{name}: {address} is taken by listen.{other_name}"));
                }
            }
        }
        if !self.ws_path.starts_with('/') {
            problems.push("listen.ws_path: must begin with /".to_owned());
        }
    }

    fn certificate_problems(&self, problems: &mut Vec<String>) {
        let encrypted = self.tls.is_some() || self.wss.is_some();
        for (name, file) in [("certificate_file", &self.certificate_file), ("key_file", &self.key_file)] {
            if encrypted && file.is_none() {
                problems.push(format!("listen.{name}: must be set for listen.tls and listen.wss"));
            }
            value::check_readable(&format!("listen.{name}"), file.as_deref(), problems);
        }
        value::check_readable("listen.client_ca_file", self.client_ca_file.as_deref(), problems);
        let asked = self.client_certificate != ClientCertificate::Off;
        if asked && !encrypted {
            problems.push("listen.client_certificate: needs listen.tls or listen.wss".to_owned());
        }
        if asked && self.client_ca_file.is_none() {
            problems.push("listen.client_certificate: needs listen.client_ca_file".to_owned());
        }
        if !asked && self.client_ca_file.is_some() {
            problems.push("listen.client_ca_file: has no effect while client_certificate is off".to_owned());
        }
        if !asked && self.common_name_is_client_id {
            problems.push(
                "listen.common_name_is_client_id: has no effect while client_certificate is off".to_owned(),
            );
        }
    }
}

/// Whether two sockets cannot both listen. Port 0 never clashes.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let same_place = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && same_place
}

impl Limits {
    fn problems(&self, problems: &mut Vec<String>) {
        self.zero_problems(problems);
        if !(PACKET_BYTES_LEAST..=PACKET_BYTES_LIMIT).contains(&self.packet_bytes_max) {
            problems.push(format!(
                "limits.packet_bytes_max: must be between {PACKET_BYTES_LEAST} and {PACKET_BYTES_LIMIT}"
            ));
        }
        let packet = self.packet_bytes_max as usize;
        for (small, small_bytes, large, large_bytes) in [
            ("packet_bytes_max", packet, "inflight_bytes_per_connection", self.inflight_bytes_per_connection),
            ("packet_bytes_max", packet, "queue_bytes_max", self.queue_bytes_max),
            ("packet_bytes_max", packet, "retained_bytes_max", self.retained_bytes_max),
            (
                "inflight_bytes_per_connection",
                self.inflight_bytes_per_connection,
                "inflight_bytes_total",
                self.inflight_bytes_total,
            ),
            ("connections_max", self.connections_max, "sessions_max", self.sessions_max),
        ] {
            if small_bytes > large_bytes {
                problems
                    .push(format!("limits.{small}: must not be more than limits.{large} ({large_bytes})"));
            }
        }
        if self.authenticate_timeout >= self.connect_timeout {
            problems.push(
                "limits.authenticate_timeout_ms: must be less than limits.connect_timeout_ms, \
                 which it is a part of"
                    .to_owned(),
            );
        }
    }

    fn zero_problems(&self, problems: &mut Vec<String>) {
        for (name, is_zero) in [
            ("connections_max", self.connections_max == 0),
            ("connect_timeout_ms", self.connect_timeout.is_zero()),
            ("packet_timeout_ms", self.packet_timeout.is_zero()),
            ("write_timeout_ms", self.write_timeout.is_zero()),
            ("receive_max", self.receive_max == 0),
            ("inflight_max", self.inflight_max == 0),
            ("subscriptions_max", self.subscriptions_max == 0),
            ("queue_messages_max", self.queue_messages_max == 0),
            ("shutdown_deadline_ms", self.shutdown_deadline.is_zero()),
            ("authenticate_timeout_ms", self.authenticate_timeout.is_zero()),
        ] {
            if is_zero {
                problems.push(format!("limits.{name}: must not be 0"));
            }
        }
    }
}

impl Access {
    fn problems(&self, problems: &mut Vec<String>) {
        value::check_readable("access.credentials_file", self.credentials_file.as_deref(), problems);
        let mut has_fleet = false;
        match self.fleet_master_key() {
            Err(error) => problems.push(format!("{error:#}")),
            Ok(Some(key)) => {
                has_fleet = true;
                if latchline_shared::hex::decode::<32>(key.expose_secret()).is_none() {
                    problems
                        .push("access.fleet_master_key: must be 64 lower-case hexadecimal digits".to_owned());
                }
            }
            Ok(None) => {}
        }
        let anonymous_role = self.anonymous_role.as_deref();
        let fleet_role = has_fleet.then_some(self.fleet_role.as_str());
        for (name, role) in [("anonymous_role", anonymous_role), ("fleet_role", fleet_role)] {
            if role.is_some_and(|role| !self.rules.iter().any(|rule| rule.may_allow(role))) {
                problems.push(format!("access.{name}: no rule allows this role anything"));
            }
        }
        for (index, rule) in self.rules.iter().enumerate() {
            rule.problems(&format!("access.rules[{index}]"), problems);
        }
    }
}

impl Guard {
    fn problems(&self, access: &Access, problems: &mut Vec<String>) {
        if self.mode == GuardMode::Off {
            return;
        }
        // What is wrong with the fleet's key alone has been said.
        let is_fleet_wrong = problems.iter().any(|problem| problem.starts_with("access.fleet_master_key"));
        match keys::ring(self, access) {
            Err(error) if !is_fleet_wrong => problems.push(format!("{error:#}")),
            Ok(ring) if ring.is_empty() => problems.push(
                "guard.mode: there is no key to verify commands with, set access.fleet_master_key_file, \
                 guard.named or guard.lock_secrets_file"
                    .to_owned(),
            ),
            _ => {}
        }
        if self.nonces_per_lock_max == 0 {
            problems.push("guard.nonces_per_lock_max: must not be 0".to_owned());
        }
        if self.nonces_per_lock_max > self.nonces_max {
            let max = self.nonces_max;
            problems
                .push(format!("guard.nonces_per_lock_max: must not be more than guard.nonces_max ({max})"));
        }
    }
}

impl AccessRule {
    fn may_allow(&self, role: &str) -> bool {
        self.effect == Effect::Allow
            && self.role.as_deref().is_none_or(|own| own == role)
            && self.except_role.as_deref() != Some(role)
    }

    fn problems(&self, place: &str, problems: &mut Vec<String>) {
        let mut problem = |text: &str| problems.push(format!("{place}{text}"));
        if self.filter.starts_with("$share/") {
            problem(".filter: rules see the filter inside a shared subscription, leave out $share");
        } else if !topic::is_topic_filter(&self.filter) {
            problem(".filter: is not a topic filter");
        }
        if self.filter.split('/').any(|level| level.contains('%') && level != "%c" && level != "%u") {
            problem(".filter: % must stand as %c or %u, alone in its level");
        }
        if self.action != Action::Publish && (self.qos.is_some() || self.retain.is_some()) {
            problem(": qos and retain need action = \"publish\"");
        }
        if self.action != Action::Subscribe && self.wildcard.is_some() {
            problem(": wildcard needs action = \"subscribe\"");
        }
        if self.qos.as_ref().is_some_and(|levels| levels.is_empty() || levels.iter().any(|level| *level > 2))
        {
            problem(".qos: must list levels 0, 1 or 2");
        }
        if self.role.is_some() && self.role == self.except_role {
            problem(": role and except_role are the same, so it never applies");
        }
    }
}

#[cfg(test)]
mod tests;
