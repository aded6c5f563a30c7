//! `sink`: takes mails or SMS and shows them: where a demonstration's messages go instead of to people.
//!
//! It writes nothing to disk, and ends at once when it is told to.
#![expect(clippy::disallowed_macros, reason = "a command-line tool talks on standard output")]

use std::net::SocketAddr;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use latchline_e2e::sink::sms::Inbox;
use latchline_e2e::sink::{Page, mail};
use latchline_notifier::sink::smtp::{MailServer, Tls};
use latchline_shared::kit::run::health;
use tokio::signal::unix::{SignalKind, signal};

/// Takes mails or SMS, and shows them on a page and as JSON
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// A mail server
    Mail {
        /// Where mails arrive
        #[arg(long, value_name = "ADDRESS:PORT")]
        smtp: SocketAddr,
        #[command(flatten)]
        page: Shown,
    },
    /// An SMS gateway: POST /messages, as the notifier's preset `generic` sends it
    Sms {
        #[command(flatten)]
        page: Shown,
    },
    /// Ask the running one whether it is well
    Health {
        /// Where its page is
        #[arg(long, value_name = "ADDRESS:PORT")]
        http: SocketAddr,
    },
}

#[derive(Args)]
struct Shown {
    /// Where the page is, and /api/messages
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: SocketAddr,
    /// How many messages are kept, the newest; fewer if they have more than 16 KiB on average
    #[arg(long, default_value_t = 2000)]
    keep: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().what {
        What::Mail { smtp, page } => {
            let server = MailServer::start(smtp, Tls::None, page.keep);
            let server = server.await.with_context(|| format!("cannot listen on {smtp}"))?;
            let page = Page::start(page.http, mail::source(&server)).await?;
            println!("mails arrive at {}, and are shown at http://{}/", server.address(), page.address());
            told_to_end().await
        }
        What::Sms { page } => {
            let inbox = Inbox::new(page.keep);
            let page = Page::start_with(page.http, inbox.source(), inbox.routes()).await?;
            println!("SMS arrive at http://{0}/messages, and are shown at http://{0}/", page.address());
            told_to_end().await
        }
        What::Health { http } => health::ask(http, "/livez"),
    }
}

/// Until SIGTERM or Ctrl-C. Nothing is waited for: what was taken is shown, and goes with the process.
async fn told_to_end() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.context("wait for Ctrl-C"),
        _ = terminate.recv() => Ok(()),
    }
}
