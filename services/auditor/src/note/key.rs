//! The command that makes a key, or shows the public half of one.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use aws_lc_rs::rand;
use latchline_shared::hex;
use latchline_shared::kit::run::Exit;

use super::Signer;

/// Arguments of `key`.
#[derive(Debug, clap::Args)]
pub struct KeyArguments {
    /// Name of the key: the site, as in `checkpoint.site`.
    #[arg(long)]
    pub name: String,
    /// File with the key; made, readable for its owner only, if it is not there.
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
}

/// Makes a key unless there is one, and writes the key to verify with, which is no secret.
pub fn cli_key(arguments: &KeyArguments, out: &mut impl Write) -> anyhow::Result<Exit> {
    super::check_name(&arguments.name)?;
    let path = &arguments.file;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let mut seed = [0; 32];
            rand::fill(&mut seed).map_err(|_| anyhow!("no random numbers"))?;
            file.write_all(format!("{}\n", hex::encode(&seed)).as_bytes())
                .and_then(|()| file.sync_all())
                .with_context(|| format!("write {}", path.display()))?;
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(|| format!("create {}", path.display())),
    }
    let signer = Signer::of_file(&arguments.name, path)?;
    writeln!(out, "{}", signer.verifier())?;
    Ok(Exit::Done)
}
