//! Gateways against servers on real sockets: what they are sent, and what their answers mean.

mod answers;
mod injection;
mod presets;
mod settings;

use serde::Deserialize;
use uuid::Uuid;

use super::gateway_settings::{GatewaySettings, Merged};
use super::settings::Settings;
use super::*;
use crate::event::{EventType, Severity};
use crate::sink::http::{HttpServer, Reply};

pub(crate) const ID: Uuid = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
const TO: &str = "+819012341234";

/// A gateway as somebody writes it.
pub(crate) fn gateway_settings(toml: &str) -> Result<GatewaySettings, String> {
    let table: toml::Table = toml::from_str(toml).unwrap();
    let merged = Merged::deserialize(toml::Value::Table(table));
    merged.map(|Merged(gateway)| gateway).map_err(|error| error.message().to_owned())
}

/// The `[sms]` table with these gateways, and reports.
pub(crate) fn sms_settings(gateways: &[&str]) -> Settings {
    Settings {
        gateways: gateways.iter().map(|toml| gateway_settings(toml).unwrap()).collect(),
        concurrency: 1,
        concurrency_critical: 1,
        public_url: Some("https://locks.example/n".to_owned()),
        report_key: Some("the key of the links".into()),
        report_key_file: None,
    }
}

/// What it takes to use each preset, sent to `url`.
pub(crate) fn preset(name: &str, url: &str) -> String {
    let own = match name {
        "twilio" => format!(
            "url = '{url}/2010-04-01/Accounts/{{{{ setting.account_sid }}}}/Messages.json'\n\
             settings = {{ account_sid = 'AC/1' }}\nsecrets = {{ auth_token = 'tok:en' }}"
        ),
        "vonage" => format!(
            "url = '{url}/sms/json'\nsettings = {{ api_key_id = 'k' }}\nsecrets = {{ api_secret = 's&s' }}"
        ),
        "kannel" => format!(
            "url = '{url}/cgi-bin/sendsms'\nsettings = {{ user = 'u' }}\nsecrets = {{ password = 'p&p' }}"
        ),
        _ => format!("url = '{url}/messages'\nsecrets = {{ api_token = 'tok' }}"),
    };
    format!("name = '{name}'\npreset = '{name}'\nfrom = 'Lock'\n{own}\n")
}

fn gateway(toml: &str) -> Gateway {
    let settings = sms_settings(&[toml]);
    Gateway::new(&settings.gateways[0], &settings).unwrap()
}

fn message(text: &str) -> Message {
    Message {
        id: ID,
        address: TO.to_owned(),
        event_type: EventType::Unlocked,
        severity: Severity::Info,
        at_ms: 0,
        content: Content::Sms { text: text.to_owned() },
    }
}

async fn server(reply: Reply) -> HttpServer {
    let server = HttpServer::start(([127, 0, 0, 1], 0).into(), 100).await.unwrap();
    server.answer(reply);
    server
}
