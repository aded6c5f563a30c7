//! What the binary can be told to do beside running.

use anyhow::Context;
use latchline_shared::kit::http::tokens;
use latchline_shared::kit::run::{Commands, Exit};

use crate::http::SCOPES;
use crate::migrations::SCHEMA;
use crate::rebuild;
use crate::settings::Settings;

/// A command of the binary.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Bring the schema up to date, with the login of its owner.
    Migrate,
    /// Make a token for the API: prints the secret, once, and the line for http.tokens_file.
    Token {
        /// Who will use it; stands in the history of alarms
        name: String,
        /// read, operate, admin; several separated by commas
        scopes: String,
    },
    /// Replay the streams into a shadow schema, and prove that the result equals the live tables.
    Rebuild(rebuild::RebuildArguments),
}

impl Commands<Settings> for Command {
    async fn execute(self, settings: Settings) -> anyhow::Result<Exit> {
        let mut out = std::io::stdout().lock();
        match self {
            Self::Migrate => {
                let applied = SCHEMA.migrate(&settings.postgres.server).await?;
                say(&mut out, &format!("{applied} migrations applied\n"))
            }
            Self::Token { name, scopes } => {
                let token = tokens::generate(&name, &scopes, SCOPES)?;
                say(&mut out, &format!("{}\n{}\n", token.secret, token.line))
            }
            Self::Rebuild(arguments) => rebuild::cli(&arguments, &settings, &mut out).await,
        }
    }
}

fn say(out: &mut impl std::io::Write, text: &str) -> anyhow::Result<Exit> {
    out.write_all(text.as_bytes()).context("write to standard output")?;
    Ok(Exit::Done)
}
