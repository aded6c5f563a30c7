//! `latchline-crowd`: the broker with clients in its own process. The benchmarks start it to measure
//! more sessions than a process may have sockets; it is no use by itself.

use std::process::ExitCode;

use latchline_broker::config::DEFAULT_TOML;
use latchline_e2e::bench::scale::crowd::{self, ENV_PREFIX};
use latchline_shared::kit::run::{Program, run};

/// The broker's, since its memory is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PROGRAM: Program = Program {
    name: "latchline-crowd",
    about: "The broker with clients in its own process, for the benchmarks",
    version: env!("CARGO_PKG_VERSION"),
    default_toml: DEFAULT_TOML,
    env_prefix: ENV_PREFIX,
};

fn main() -> ExitCode {
    run(&PROGRAM, crowd::run)
}
