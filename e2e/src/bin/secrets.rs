//! `secrets`: the secrets of the containers. `write` makes or takes them, once; `environment` prints
//! what tools on the host need to reach the published ports; `run` starts a tool of the demo with
//! what it needs.
#![expect(clippy::disallowed_macros, reason = "a command-line tool talks on standard output")]

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use latchline_e2e::containers::secrets;
use latchline_e2e::site::{Api, Site};

/// The secrets of the containers
#[derive(Parser)]
struct Arguments {
    /// Where the folders are that volumes of secrets are mounted at
    #[arg(long, default_value = "/run/latchline")]
    folder: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make what is missing; what the environment gives (LATCHLINE_MASTER_KEY and so on) wins
    Write,
    /// Print the lines that tools on the host need: eval "$(… secrets environment)"
    Environment(Published),
    /// Start a program with the secrets of the demo in its environment
    Run {
        /// The program and its arguments
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

/// Where the ports are published.
#[derive(Args)]
struct Published {
    #[arg(long, env = "LATCHLINE_BIND", default_value = "127.0.0.1")]
    bind: IpAddr,
    #[arg(long, env = "LATCHLINE_MQTT_BIND", default_value = "127.0.0.1")]
    mqtt_bind: IpAddr,
    #[arg(long, env = "LATCHLINE_MQTT_PORT", default_value_t = 1883)]
    mqtt: u16,
    #[arg(long, env = "LATCHLINE_WEBSOCKET_PORT", default_value_t = 8083)]
    websocket: u16,
    #[arg(long, env = "LATCHLINE_BROKER_PORT", default_value_t = 18083)]
    broker: u16,
    #[arg(long, env = "LATCHLINE_AUDITOR_PORT", default_value_t = 8101)]
    auditor: u16,
    #[arg(long, env = "LATCHLINE_MONITOR_PORT", default_value_t = 8102)]
    monitor: u16,
    #[arg(long, env = "LATCHLINE_NOTIFIER_PORT", default_value_t = 8103)]
    notifier: u16,
    #[arg(long, env = "LATCHLINE_MAIL_PORT", default_value_t = 8025)]
    mail: u16,
    #[arg(long, env = "LATCHLINE_SMS_PORT", default_value_t = 8026)]
    sms: u16,
}

fn main() -> anyhow::Result<()> {
    let Arguments { folder, verb } = Arguments::parse();
    match verb {
        Verb::Write => {
            for line in secrets::write(&folder, |name| std::env::var(name).ok())? {
                println!("{line}");
            }
            Ok(())
        }
        Verb::Environment(published) => {
            for (name, value) in published.site(secrets::read(&folder)?).environment() {
                println!("export {name}={}", quoted(&value));
            }
            Ok(())
        }
        Verb::Run { command } => {
            let (program, arguments) = command.split_first().context("no program is named")?;
            let error = Command::new(program).args(arguments).envs(secrets::of_demo(&folder)?).exec();
            Err(error).with_context(|| format!("start {}", program.display()))
        }
    }
}

/// A value as a shell reads it: passwords that were given may have signs that mean something to it.
fn quoted(value: &str) -> String {
    if value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&byte)) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

impl Published {
    /// What is published everywhere is reached at the loopback address.
    fn site(&self, secrets: latchline_e2e::stack::secrets::Secrets) -> Site {
        let at = |bind: IpAddr, port| {
            SocketAddr::new(if bind.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { bind }, port)
        };
        let http = |port| format!("http://{}", at(self.bind, port));
        let token = Some(secrets.token.clone());
        let api = |port| Api::new(http(port), token.as_deref());
        Site {
            mqtt: at(self.mqtt_bind, self.mqtt),
            websocket: format!("ws://{}/mqtt", at(self.mqtt_bind, self.websocket)),
            broker: api(self.broker),
            auditor: api(self.auditor),
            monitor: api(self.monitor),
            notifier: api(self.notifier),
            mail: Api::new(http(self.mail), None),
            sms: Api::new(http(self.sms), None),
            kafka: None,
            secrets,
        }
    }
}
