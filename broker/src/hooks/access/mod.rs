//! The broker's own hook: who may connect, and what they may do.
//!
//! A client is, in this order (see [`identity`] for which client ids go with it):
//!
//! | presents | checked against | role |
//! |---|---|---|
//! | anything, with a revoked client id or user name | the credentials file | none, refused |
//! | a client id with an entry, and a password | the entry's hash | the entry's |
//! | a user name with an entry, and a password | the entry's hash, then the client id | the entry's |
//! | a password | the one derived for the client id | `fleet_role` |
//! | a verified certificate, no password | its common name is the client id | `fleet_role` |
//! | no user name, password or certificate | `anonymous_role` is set, then the client id | that |
//!
//! This hook decides, so hooks that know clients from elsewhere stand before it in the chain.
//!
//! Invariant: nobody has a user's name without the user's secret. A lock may send any user name but
//! that of an entry: records and rules name it.
//! Invariant: an unknown name and a wrong password get the same answer after the same work: every
//! check is made, with a hash of nobody where there is no entry.

use std::sync::Arc;

use bytestring::ByteString;
use latchline_shared::hook::{Access, Answer, Authentication, Authorisation, Call, Connect, Hook, Refusal};
use latchline_shared::keys::SecretHash;
use latchline_shared::message::Client;
use tracing::{error, info};

use super::chain::UNKNOWN_CLIENT;
use super::credentials::{Credentials, Entry, Table};
use super::fleet::Fleet;
use super::identity;
use super::rules::Rules;
use crate::config::{ClientCertificate, Config};
use crate::packet::types::reason;

/// A name that is not known, or a secret that is not its own.
pub const BAD_CREDENTIALS: Refusal =
    Refusal { reason_code: reason::BAD_CREDENTIALS, cause: "bad_credentials" };
/// The client is who it says, but the client id belongs to someone else.
pub const FOREIGN_CLIENT_ID: Refusal =
    Refusal { reason_code: reason::CLIENT_ID_NOT_VALID, cause: "foreign_client_id" };
/// The client may not connect any more.
pub const REVOKED: Refusal = Refusal::not_authorized("revoked");

/// The hook.
pub struct AccessControl {
    credentials: Option<Credentials>,
    fleet: Option<Fleet>,
    certificate_role: ByteString,
    anonymous: Option<Anonymous>,
    rules: Rules,
}

/// How clients that present nothing connect.
struct Anonymous {
    role: ByteString,
    /// Others can log in, so there are sessions that are not for everyone.
    has_others: bool,
}

impl AccessControl {
    /// Access control as configured. Blocks on the disk.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let access = &config.access;
        let credentials = access.credentials_file.as_deref().map(Credentials::open).transpose()?;
        let fleet = Fleet::open(access)?;
        let has_others = credentials.is_some()
            || fleet.is_some()
            || config.listen.client_certificate != ClientCertificate::Off;
        let anonymous_role = access.anonymous_role.as_deref();
        Ok(Self {
            credentials,
            fleet,
            certificate_role: access.fleet_role.as_str().into(),
            anonymous: anonymous_role.map(|role| Anonymous { role: role.into(), has_others }),
            rules: Rules::new(&access.rules),
        })
    }

    /// Reads the credentials file anew; if it is wrong, what was read before stays in force. Blocks
    /// on the disk.
    pub fn reload(&self) {
        let Some(credentials) = &self.credentials else { return };
        match credentials.reload() {
            Ok(entries) => info!(entries, "credentials reloaded"),
            Err(error) => {
                let error = anyhow::Error::from(error);
                error!(error = format!("{error:#}"), "credentials not reloaded, the old ones stay in force");
            }
        }
    }

    /// Whether a client that is connected may not be any more, since its entry was revoked.
    pub fn is_revoked(&self, client: &Client) -> bool {
        let revoked =
            |credentials: &Credentials| credentials.table().is_revoked(&client.id, &client.username);
        self.credentials.as_ref().is_some_and(revoked)
    }

    fn authenticate(&self, connect: &Connect, table: &Table) -> Result<ByteString, Refusal> {
        let id = &*connect.client_id;
        let username = connect.username.as_deref().filter(|name| !name.is_empty());
        let password = connect.password.as_deref();
        let client = table.client(id);
        let user = username.and_then(|name| table.user(name));

        let hash = SecretHash::of(password.unwrap_or_default());
        let client_role = role_of(client, &hash);
        let user_role = role_of(user, &hash);
        let fleet_role = self.fleet_role(id, password.unwrap_or_default());

        match (client, user) {
            (Some(Entry::Revoked), _) | (_, Some(Entry::Revoked)) => Err(REVOKED),
            // Whichever secret is right, it would be one under the name of the other.
            (Some(_), Some(_)) => Err(BAD_CREDENTIALS),
            (Some(_), None) => client_role.ok_or(BAD_CREDENTIALS),
            (None, Some(_)) => {
                let role = user_role.ok_or(BAD_CREDENTIALS)?;
                let is_own = identity::is_assigned(id) || table.owner(id) == username;
                if is_own { Ok(role) } else { Err(FOREIGN_CLIENT_ID) }
            }
            (None, None) if password.is_some() => fleet_role.ok_or(BAD_CREDENTIALS),
            (None, None) => self.without_password(connect, username, table),
        }
    }

    fn fleet_role(&self, client_id: &str, password: &[u8]) -> Option<ByteString> {
        let fleet = self.fleet.as_ref()?;
        fleet.knows(client_id, password).then(|| fleet.role.clone())
    }

    fn without_password(
        &self,
        connect: &Connect,
        username: Option<&str>,
        table: &Table,
    ) -> Result<ByteString, Refusal> {
        let id = &*connect.client_id;
        match (&connect.common_name, username, &self.anonymous) {
            // A certificate says who the lock is; it does not speak for a user.
            (Some(name), _, _) if name == id && table.owner(id).is_none() => {
                Ok(self.certificate_role.clone())
            }
            (None, None, Some(anonymous)) if anonymous.may_use(id, table) => Ok(anonymous.role.clone()),
            (None, None, Some(_)) => Err(FOREIGN_CLIENT_ID),
            (None, None, None) => Err(UNKNOWN_CLIENT),
            _ => Err(BAD_CREDENTIALS),
        }
    }
}

impl Anonymous {
    fn may_use(&self, client_id: &str, table: &Table) -> bool {
        let is_anonymous = || identity::begins_with_name(client_id, identity::ANONYMOUS);
        let is_nobodys = || is_anonymous() && table.owner(client_id).is_none();
        !self.has_others || identity::is_assigned(client_id) || is_nobodys()
    }
}

/// The role of an entry whose secret has this hash. Without an entry the work is the same.
fn role_of(entry: Option<&Entry>, hash: &SecretHash) -> Option<ByteString> {
    let (known, role) = match entry {
        Some(Entry::Secret { hash, role }) => (hash, Some(role)),
        Some(Entry::Revoked) | None => (&SecretHash::NOBODY, None),
    };
    let is_known = known.is(hash);
    role.filter(|_| is_known).cloned()
}

impl Hook for AccessControl {
    fn name(&self) -> &'static str {
        "access"
    }

    fn calls(&self) -> &'static [Call] {
        &[Call::ClientAuthenticate, Call::ClientAuthorise]
    }

    fn client_authenticate(&self, connect: &Arc<Connect>) -> Answer<Authentication> {
        let result = match &self.credentials {
            Some(credentials) => self.authenticate(connect, &credentials.table()),
            None => self.authenticate(connect, &Table::default()),
        };
        Answer::Now(match result {
            Ok(role) => Authentication::Allow { role },
            Err(refusal) => Authentication::Deny(refusal),
        })
    }

    fn client_authorise(&self, client: &Client, access: &Access<'_>) -> Authorisation {
        if self.is_revoked(client) {
            return Authorisation::Deny(REVOKED);
        }
        self.rules.authorise(client, access)
    }
}

#[cfg(test)]
mod tests;
