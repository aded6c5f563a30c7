//! What the binary can be told to do beside running.

use anyhow::Context;
use latchline_shared::kit::http::tokens;
use latchline_shared::kit::run::{Commands, Exit};

use crate::http::SCOPES;
use crate::migrations::SCHEMA;
use crate::settings::Settings;

/// A command of the binary.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Bring the schema up to date, with the login of its owner.
    Migrate,
    /// Make a token for the API: prints the secret, once, and the line for http.tokens_file.
    Token {
        /// Who will use it
        name: String,
        /// read, operate, admin; several separated by commas
        scopes: String,
    },
}

impl Commands<Settings> for Command {
    async fn execute(self, settings: Settings) -> anyhow::Result<Exit> {
        match self {
            Self::Migrate => {
                let applied = SCHEMA.migrate(&settings.postgres.server).await?;
                say(&format!("{applied} migrations applied\n"))
            }
            Self::Token { name, scopes } => {
                let token = tokens::generate(&name, &scopes, SCOPES)?;
                say(&format!("{}\n{}\n", token.secret, token.line))
            }
        }
    }
}

fn say(text: &str) -> anyhow::Result<Exit> {
    use std::io::Write;
    std::io::stdout().lock().write_all(text.as_bytes()).context("write to standard output")?;
    Ok(Exit::Done)
}
