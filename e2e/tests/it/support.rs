//! What several tests need.

use std::process::{Command, Stdio};
use std::time::Duration;

use latchline_e2e::kafka::{Choice, Kafka};

/// Longest wait for something that takes milliseconds on a machine with nothing else to do.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A development Kafka.
pub(crate) async fn development() -> Kafka {
    Kafka::start(Choice::Development).await.unwrap()
}

/// The Kafka that `KAFKA` or this machine chooses, unless that is the development Kafka, on which
/// every test runs anyway.
#[expect(clippy::disallowed_macros, reason = "a test that does not run says so")]
pub(crate) async fn chosen() -> Option<Kafka> {
    match Choice::of_environment().unwrap() {
        Choice::Development => {
            println!("no Java 17 and Maven here: tested on the development Kafka only");
            None
        }
        choice => Some(Kafka::start(choice).await.unwrap()),
    }
}

/// Whether a program can be started.
pub(crate) fn installed(program: &str) -> bool {
    Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}
