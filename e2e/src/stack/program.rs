//! A program of ours as people run it: the built binary, configured by environment variables, its
//! ports and its health read from its log.
//!
//! It can be killed and started again on the same ports with the same configuration.
//!
//! Invariant: a log line of level WARN or ERROR that nobody announced ([`Program::expect`]) fails
//! the test that owns the program, at the latest when it is dropped.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::time::{Instant, sleep};

use crate::process::{Output, Process};
use crate::stack::log::{self, Expectation};

const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// `latchline-broker`.
    Broker,
    /// `latchline-auditor`.
    Auditor,
    /// `latchline-monitor`.
    Monitor,
    /// `latchline-notifier`.
    Notifier,
    /// `latchline-crowd`: the broker with clients in its own process, for the benchmarks.
    Crowd,
}

impl Name {
    fn word(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Auditor => "auditor",
            Self::Monitor => "monitor",
            Self::Notifier => "notifier",
            Self::Crowd => "crowd",
        }
    }

    /// Begin of the environment variables that configure it.
    fn prefix(self) -> String {
        format!("LATCHLINE_{}__", self.word().to_uppercase())
    }

    /// The binary: what `LATCHLINE_…_BINARY` says, or what was built with this program.
    pub fn binary(self) -> anyhow::Result<PathBuf> {
        if let Some(path) = std::env::var_os(format!("LATCHLINE_{}_BINARY", self.word().to_uppercase())) {
            return Ok(path.into());
        }
        let own = std::env::current_exe().context("find this program")?;
        let name = format!("latchline-{}", self.word());
        // Tests are in a folder below the binaries.
        let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(&name));
        found
            .into_iter()
            .find(|path| path.is_file())
            .with_context(|| format!("no {name} beside {}: cargo build --workspace --bins", own.display()))
    }
}

/// A program, running or stopped.
#[derive(Debug)]
pub struct Program {
    name: Name,
    settings: BTreeMap<String, String>,
    output: Output,
    /// Number of the first line of the present run.
    run_begins_at: usize,
    addresses: BTreeMap<String, SocketAddr>,
    process: Option<Process>,
    expected: Vec<Expectation>,
    /// Which of them count only for now.
    for_now: Vec<usize>,
    /// What it leaves behind when it is killed: begins of paths, its process id follows.
    leftovers: &'static [&'static str],
}

impl Program {
    /// A program with these settings (`listen.tcp` is `LATCHLINE_BROKER__LISTEN__TCP`), not started.
    pub fn new<'a>(name: Name, settings: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let prefix = name.prefix();
        let variable = |key: &str| format!("{prefix}{}", key.replace('.', "__").to_uppercase());
        let mut settings: BTreeMap<String, String> =
            settings.into_iter().map(|(key, value)| (variable(key), value)).collect();
        settings.insert(variable("log.format"), "json".to_owned());
        Self {
            name,
            settings,
            output: Output::default(),
            run_begins_at: 0,
            addresses: BTreeMap::new(),
            process: None,
            expected: Vec::new(),
            for_now: Vec::new(),
            leftovers: &[],
        }
    }

    /// Removes files when a process of it has ended: these are begins of their paths, the process id follows.
    pub fn leaves(&mut self, leftovers: &'static [&'static str]) {
        self.leftovers = leftovers;
    }

    /// Adds variables to its environment, beside its settings.
    pub fn surround(&mut self, variables: impl IntoIterator<Item = (&'static str, String)>) {
        self.settings.extend(variables.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }

    /// Starts it; ready when every one of `listeners` is open.
    pub async fn start(&mut self, listeners: &[&str]) -> anyhow::Result<()> {
        let who = self.who();
        ensure!(self.process.is_none(), "{who} is running");
        self.run_begins_at = self.output.lines().len();
        let mut process = Process::start_with(&who, &mut self.command()?, &self.output)?;
        let until = Instant::now() + START_DEADLINE;
        loop {
            self.read_addresses()?;
            if listeners.iter().all(|name| self.addresses.contains_key(*name)) {
                break;
            }
            let said = || self.output.lines_from(self.run_begins_at).join("\n");
            if let Some(status) = process.ended() {
                bail!("{who} ended at its start ({status}):\n{}", said());
            }
            ensure!(Instant::now() < until, "{who} is not up after {START_DEADLINE:?}:\n{}", said());
            sleep(Duration::from_millis(5)).await;
        }
        self.process = Some(process);
        Ok(())
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let process = self.process.take().with_context(|| format!("{} is not running", self.who()))?;
        self.end(process);
        Ok(())
    }

    /// Ends it in order (SIGTERM); an exit code other than 0 is an error.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let process = self.process.take().with_context(|| format!("{} is not running", self.who()))?;
        let id = process.id();
        let status = process.stop(STOP_DEADLINE).await;
        self.tidy(id);
        let status = status?;
        ensure!(status.success(), "{} ended with {status}", self.who());
        Ok(())
    }

    /// Address of a listener: `tcp`, `tls`, `ws`, `wss` or `http`.
    pub fn address(&self, listener: &str) -> SocketAddr {
        *self.addresses.get(listener).expect("whoever asks for a listener has started it")
    }

    /// The running process.
    pub fn process(&self) -> anyhow::Result<&Process> {
        self.process.as_ref().with_context(|| format!("{} is not running", self.who()))
    }

    /// All log lines, of all runs.
    pub fn log(&self) -> Vec<log::Line> {
        log::parse(&self.output.lines())
    }

    /// All lines, of all runs, as they were written.
    pub fn lines(&self) -> Vec<String> {
        self.output.lines()
    }

    /// Announces warnings and errors whose line contains `text`.
    pub fn expect(&mut self, text: &str) {
        self.expected.push(Expectation { text: text.to_owned(), lines: 0..usize::MAX });
    }

    /// As [`Program::expect`], but only from now until [`Program::expect_no_more`].
    pub fn expect_for_now(&mut self, text: &str) {
        let now = self.output.lines().len();
        self.expected.push(Expectation { text: text.to_owned(), lines: now..usize::MAX });
        self.for_now.push(self.expected.len() - 1);
    }

    /// Ends what [`Program::expect_for_now`] announced; the answer is how many such lines there were.
    pub fn expect_no_more(&mut self) -> usize {
        let until = self.output.lines().len();
        for index in &self.for_now {
            self.expected[*index].lines.end = until;
        }
        let said = self.said_for_now();
        self.for_now.clear();
        said
    }

    /// How many lines were said so far of what [`Program::expect_for_now`] announced.
    pub fn said_for_now(&self) -> usize {
        let announced: Vec<&Expectation> =
            self.for_now.iter().filter_map(|index| self.expected.get(*index)).collect();
        let Some(from) = announced.iter().map(|one| one.lines.start).min() else { return 0 };
        let lines = self.output.lines_from(from);
        let is_announced =
            |number: usize, line: &str| announced.iter().any(|one| one.covers(from + number, line));
        let said = lines.iter().enumerate().filter(|(number, line)| is_announced(*number, line));
        said.filter(|(_, line)| log::is_loud(line)).count()
    }

    /// Fails on warnings and errors that were not announced.
    pub fn check_log(&self) -> anyhow::Result<()> {
        let surprises = log::surprises(&self.output.lines(), &self.expected);
        ensure!(surprises.is_empty(), "{} said what nobody expected:\n{}", self.who(), surprises.join("\n"));
        Ok(())
    }

    /// The command that starts it with its settings; arguments may be added.
    pub fn command(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(self.name.binary()?);
        // Nothing of the developer's environment decides a test.
        let prefix = self.name.prefix();
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(&prefix)) {
            command.env_remove(name);
        }
        command.envs(&self.settings);
        Ok(command)
    }

    fn end(&self, process: Process) {
        let id = process.id();
        process.kill();
        self.tidy(id);
    }

    fn tidy(&self, id: u32) {
        for begin in self.leftovers {
            // It is not there if the process has removed it.
            let _ = std::fs::remove_file(format!("{begin}{id}"));
        }
    }

    fn who(&self) -> String {
        format!("the {}", self.name.word())
    }

    fn read_addresses(&mut self) -> anyhow::Result<()> {
        for line in log::parse(&self.output.lines_from(self.run_begins_at)) {
            if line.message == "listening" {
                let address = line.field("address");
                let address = address.parse().with_context(|| format!("address {address} in the log"))?;
                self.addresses.insert(line.field("listener").to_owned(), address);
            }
        }
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            self.end(process);
        }
        if std::thread::panicking() {
            let lines = self.output.lines();
            let last = &lines[lines.len().saturating_sub(30)..];
            // Whoever reads a failed test needs the log. If nobody does: a second panic would abort this
            // process, and leave behind what it has started.
            let (count, who, last) = (last.len(), self.who(), last.join("\n"));
            let _ = writeln!(std::io::stderr(), "--- the last {count} lines of {who}\n{last}\n---");
        } else if let Err(surprise) = self.check_log() {
            panic!("{surprise}");
        }
    }
}
