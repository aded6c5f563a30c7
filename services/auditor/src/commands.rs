//! What the binary can be told to do beside running.

use anyhow::Context;
use latchline_shared::kit::http::tokens;
use latchline_shared::kit::run::{Commands, Exit};

use crate::http::SCOPES;
use crate::migrations::SCHEMA;
use crate::settings::Settings;
use crate::{archive, note, verify};

/// A command of the binary.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Bring the schema up to date, with the login of its owner.
    Migrate,
    /// Make a token for the API: prints the secret, once, and the line for http.tokens_file.
    Token {
        /// Who will use it; stands in the history of reads
        name: String,
        /// read, export, admin; several separated by commas
        scopes: String,
    },
    /// Make the key that checkpoints are signed with.
    Key(note::key::KeyArguments),
    /// Prove that history is whole, or name the first row that is not as it was written.
    Verify(verify::VerifyArguments),
    /// Archive old months and detach them, with the login of their owner.
    Retention(archive::RetentionArguments),
}

impl Commands<Settings> for Command {
    async fn execute(self, settings: Settings) -> anyhow::Result<Exit> {
        let mut out = std::io::stdout().lock();
        let postgres = &settings.postgres.server;
        match self {
            Self::Migrate => {
                let applied = SCHEMA.migrate(postgres).await?;
                say(&mut out, &format!("{applied} migrations applied\n"))
            }
            Self::Token { name, scopes } => {
                let token = tokens::generate(&name, &scopes, SCOPES)?;
                say(&mut out, &format!("{}\n{}\n", token.secret, token.line))
            }
            Self::Key(arguments) => note::key::cli_key(&arguments, &mut out),
            Self::Verify(arguments) => verify::cli(&arguments, postgres, &mut out).await,
            Self::Retention(arguments) => archive::cli(&arguments, postgres, &mut out).await,
        }
    }
}

fn say(out: &mut impl std::io::Write, text: &str) -> anyhow::Result<Exit> {
    out.write_all(text.as_bytes()).context("write to standard output")?;
    Ok(Exit::Done)
}
