//! A child process: its output line by line, its signals, and the certainty that it ends with us.
//!
//! Everything outside this process that a test starts (Apache Kafka, the broker, `mosquitto_sub`)
//! goes through here. Output is read by a thread per pipe, so that a chatty child never blocks on a
//! full pipe while a test waits for something else.
//!
//! Invariant: a [`Process`] that is dropped has ended and has been waited for; nothing is left
//! behind by a test that panics.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::time::ClockId;
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

/// How often a condition outside this process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long a process that is dropped may take to end its own.
const PARTING: Duration = Duration::from_secs(20);
/// The kernel stops a process when its threads next run, which takes a while on a busy machine.
const PAUSE_DEADLINE: Duration = Duration::from_secs(10);

/// A running child process.
#[derive(Debug)]
pub struct Process {
    name: String,
    id: u32,
    /// Shared with those who [watch](Watch): whoever sees its end first leaves it to be seen by the others.
    child: Arc<Mutex<Child>>,
    output: Output,
    /// Whether it ends others when it is asked to end, and leaves them behind when it is killed.
    is_parent: bool,
}

/// Sees when a process ends that somebody else has.
#[derive(Debug, Clone)]
pub struct Watch {
    name: String,
    child: Arc<Mutex<Child>>,
    output: Output,
}

/// The lines that a process has written, from both pipes in the order of arrival.
#[derive(Debug, Clone, Default)]
pub struct Output(Arc<Mutex<Vec<String>>>);

impl Output {
    /// A copy of all lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lock().clone()
    }

    /// A copy of the lines from number `from` on.
    pub fn lines_from(&self, from: usize) -> Vec<String> {
        self.lock().get(from..).unwrap_or_default().to_vec()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn read_from(&self, name: &str, pipe: impl Read + Send + 'static) -> anyhow::Result<()> {
        let output = self.clone();
        std::thread::Builder::new().name(format!("output of {name}")).spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            // Runs until the child closes the pipe. A line that is not UTF-8 is kept as it can be.
            while pipe.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                output.lock().push(text);
                line.clear();
            }
        })?;
        Ok(())
    }
}

impl Process {
    /// Starts `command`, called `name` in errors, with its standard input closed.
    pub fn start(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        Self::start_with(name, command, &Output::default())
    }

    /// As [`Process::start`], adding to the `output` of an earlier run.
    pub fn start_with(name: &str, command: &mut Command, output: &Output) -> anyhow::Result<Self> {
        let mut child = command
            // A Ctrl-C goes to us alone; we end what we have started, in our order.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {name} ({})", command.get_program().display()))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        // From here on, dropping it ends the child.
        let (id, child) = (child.id(), Arc::new(Mutex::new(child)));
        let process = Self { name: name.to_owned(), id, child, output: output.clone(), is_parent: false };
        if let Some(pipe) = stdout {
            output.read_from(name, pipe)?;
        }
        if let Some(pipe) = stderr {
            output.read_from(name, pipe)?;
        }
        Ok(process)
    }

    /// It has processes of its own, which it ends when it gets SIGTERM: that is tried when this is dropped.
    pub fn with_children(mut self) -> Self {
        self.is_parent = true;
        self
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Sees its end for somebody else.
    pub fn watch(&self) -> Watch {
        Watch { name: self.name.clone(), child: Arc::clone(&self.child), output: self.output.clone() }
    }

    /// What it has written.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        child(&self.child).try_wait().ok().flatten()
    }

    /// Processor time used so far.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        cpu_time(self.id())
    }

    /// Sends SIGSTOP and waits until every thread stands still: its sockets stay open and nobody
    /// answers.
    pub async fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)?;
        wait_until_still(self.id).await.with_context(|| format!("pause {}", self.name))
    }

    /// Sends SIGCONT.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Sends SIGTERM and waits for the end; an error if it has ended by itself before.
    pub async fn stop(mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(deadline).await
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(self) {
        drop(self);
    }

    /// Waits for the end.
    pub async fn wait(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        let until = Instant::now() + deadline;
        loop {
            let ended = child(&self.child).try_wait()?;
            if let Some(status) = ended {
                return Ok(status);
            }
            if Instant::now() >= until {
                bail!("{} has not ended after {deadline:?}", self.name);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        // Held, so that nobody reaps it meanwhile: its number may be another's then.
        let mut child = child(&self.child);
        if let Some(status) = child.try_wait()? {
            bail!("{} has ended ({status})", self.name);
        }
        send(child.id(), signal).with_context(|| format!("to {}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_parent && self.signal(Signal::SIGTERM).is_ok() {
            let until = Instant::now() + PARTING;
            while self.ended().is_none() && Instant::now() < until {
                std::thread::sleep(LOOK_EVERY);
            }
        }
        // Both fail only when it has ended already, which is what is wanted.
        let mut child = child(&self.child);
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Watch {
    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        child(&self.child).try_wait().ok().flatten()
    }

    /// What it has written.
    pub fn lines(&self) -> Vec<String> {
        self.output.lines()
    }
}

fn child(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The processes that a process has started and that run, if it is one whose first thread starts them.
pub fn children(id: u32) -> anyhow::Result<Vec<u32>> {
    let path = format!("/proc/{id}/task/{id}/children");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    text.split_ascii_whitespace().map(|id| id.parse().with_context(|| format!("{path}: {id}"))).collect()
}

/// Sends SIGSTOP to a process, whoever has started it, and waits until every thread stands still.
pub async fn pause(id: u32) -> anyhow::Result<()> {
    send(id, Signal::SIGSTOP)?;
    wait_until_still(id).await
}

async fn wait_until_still(id: u32) -> anyhow::Result<()> {
    let until = Instant::now() + PAUSE_DEADLINE;
    while !stands_still(id)? {
        ensure!(Instant::now() < until, "{id} does not stand still after {PAUSE_DEADLINE:?}");
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

fn stands_still(id: u32) -> anyhow::Result<bool> {
    let folder = format!("/proc/{id}/task");
    for thread in std::fs::read_dir(&folder).with_context(|| format!("read {folder}"))? {
        // A thread that has ended meanwhile does nothing either.
        let stat = std::fs::read_to_string(thread?.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
        if state.is_some_and(|state| !state.starts_with(['T', 'Z', 'X'])) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Sends a signal to a process, whoever has started it.
pub fn send(id: u32, signal: Signal) -> anyhow::Result<()> {
    let id = i32::try_from(id).context("process id out of range")?;
    kill(Pid::from_raw(id), signal).with_context(|| format!("send {signal} to {id}"))
}

/// Processor time that a process has used so far, its children not counted; to the nanosecond.
pub fn cpu_time(id: u32) -> anyhow::Result<Duration> {
    let pid = Pid::from_raw(i32::try_from(id).context("process id out of range")?);
    let clock = ClockId::pid_cpu_clock_id(pid).and_then(ClockId::now);
    Ok(clock.with_context(|| format!("read the processor time of {id}"))?.into())
}

/// Processor time that a process, the children that it has waited for and its living children have
/// used so far.
pub fn family_cpu_time(id: u32) -> anyhow::Result<Duration> {
    // A child may have ended meanwhile; then its parent has its time.
    let living = children(id)?.into_iter().filter_map(|child| cpu_time(child).ok());
    Ok(cpu_time(id)? + waited_for(id)? + living.sum::<Duration>())
}

/// Processor time so far of each living thread of a process, by id, with its name; to the nanosecond.
pub fn cpu_times_of_threads(id: u32) -> anyhow::Result<BTreeMap<u32, (String, Duration)>> {
    let folder = format!("/proc/{id}/task");
    let mut threads = BTreeMap::new();
    for thread in std::fs::read_dir(&folder).with_context(|| format!("read {folder}"))? {
        let thread = thread?;
        let id = thread.file_name();
        let id = id.to_str().and_then(|id| id.parse().ok()).context("a thread without a number")?;
        let read = |file| std::fs::read_to_string(thread.path().join(file));
        // It may have ended meanwhile.
        let (Ok(name), Ok(text)) = (read("comm"), read("schedstat")) else { continue };
        let nanoseconds = text.split(' ').next().and_then(|time| time.parse().ok());
        let time = Duration::from_nanos(nanoseconds.with_context(|| format!("{folder}: {text}"))?);
        threads.insert(id, (name.trim_end().to_owned(), time));
    }
    Ok(threads)
}

/// Processor time of the children that a process has waited for.
fn waited_for(id: u32) -> anyhow::Result<Duration> {
    /// Of the kernel's interface, whatever its own clock: USER_HZ.
    const TICKS_PER_SECOND: u64 = 100;
    let path = format!("/proc/{id}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // The name in parentheses may hold blanks; cutime and cstime are the 14th and 15th field after it.
    let (_, rest) = stat.rsplit_once(')').with_context(|| format!("no name in {path}"))?;
    let fields = rest.split_ascii_whitespace().skip(13).take(2);
    let ticks: u64 = fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// A port of the loopback interface that is free, and below the range that the kernel gives to
/// outgoing connections, so that a thousand clients do not take it while its owner is restarted.
///
/// Non-guarantee: another process may take it before it is used; whoever can, binds to port 0.
pub fn free_port() -> anyhow::Result<u16> {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        // Processes begin in different places, and no two calls of one process get the same port.
        let step = TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + std::process::id().wrapping_mul(97).wrapping_add(step) % COUNT)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port from {FIRST} to {}", FIRST + COUNT - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        Process::start("shell", Command::new("sh").args(["-c", script])).unwrap()
    }

    #[tokio::test]
    async fn keeps_what_the_child_writes_and_how_it_ends() {
        let mut process = shell("echo out; echo err >&2; exit 3");
        let status = process.wait(Duration::from_secs(5)).await.unwrap();
        assert_eq!(status.code(), Some(3));
        let until = Instant::now() + Duration::from_secs(5);
        while process.output().lines().len() < 2 && Instant::now() < until {
            sleep(LOOK_EVERY).await;
        }
        let mut lines = process.output().lines();
        lines.sort();
        assert_eq!(lines, ["err", "out"]);
    }

    #[tokio::test]
    async fn its_end_is_seen_by_those_who_watch_and_by_its_owner() {
        let mut process = shell("exec sleep 60");
        let watch = process.watch();
        assert_eq!(watch.ended(), None);
        process.signal(Signal::SIGKILL).unwrap();
        let until = Instant::now() + Duration::from_secs(5);
        while watch.ended().is_none() && Instant::now() < until {
            sleep(LOOK_EVERY).await;
        }
        let status = watch.ended().unwrap();
        assert_eq!(format!("{} ended, {status}", watch.name()), "shell ended, signal: 9 (SIGKILL)");
        assert_eq!(process.ended(), Some(status));
        assert_eq!(process.wait(Duration::from_secs(5)).await.unwrap(), status);
    }

    #[tokio::test]
    async fn stops_by_signal_and_says_so_when_it_does_not_end() {
        let status = shell("exec sleep 60").stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(status.code(), None, "ended by a signal");

        let mut process = shell("trap '' TERM; echo ready; while :; do sleep 0.01; done");
        while process.output().lines().is_empty() {
            sleep(LOOK_EVERY).await;
        }
        process.signal(Signal::SIGTERM).unwrap();
        let error = process.wait(Duration::from_millis(100)).await.unwrap_err();
        assert!(error.to_string().contains("shell has not ended"), "{error}");
    }

    #[tokio::test]
    async fn stands_still_in_a_pause() {
        let process = shell("while :; do echo tick; sleep 0.001; done");
        while process.output().lines().is_empty() {
            sleep(LOOK_EVERY).await;
        }
        process.pause().await.unwrap();
        let before = process.cpu_time().unwrap();
        sleep(Duration::from_millis(100)).await;
        assert_eq!(process.cpu_time().unwrap(), before);
        process.resume().unwrap();
        let lines = process.output().lines().len();
        while process.output().lines().len() <= lines {
            sleep(LOOK_EVERY).await;
        }
    }

    #[tokio::test]
    async fn knows_how_long_it_has_run() {
        let process = shell("while :; do :; done");
        let until = Instant::now() + Duration::from_secs(10);
        while process.cpu_time().unwrap() < Duration::from_millis(50) {
            assert!(Instant::now() < until, "a busy loop uses the processor");
            sleep(LOOK_EVERY).await;
        }
    }

    #[tokio::test]
    async fn who_has_ended_is_neither_stopped_nor_paused() {
        for how in ["stop", "pause"] {
            let process = shell("exit 0");
            let watch = process.watch();
            let until = Instant::now() + Duration::from_secs(5);
            while watch.ended().is_none() && Instant::now() < until {
                sleep(LOOK_EVERY).await;
            }
            let error = match how {
                "stop" => process.stop(Duration::from_secs(5)).await.map(drop).unwrap_err(),
                _ => process.pause().await.unwrap_err(),
            };
            assert!(error.to_string().contains("shell has ended (exit status: 0)"), "{how}: {error}");
        }
    }

    #[tokio::test]
    async fn those_of_a_parent_end_with_it() {
        let script = "sleep 60 & child=$!; trap 'kill $child; exit' TERM; echo $child; wait";
        let process = shell(script).with_children();
        let until = Instant::now() + Duration::from_secs(5);
        while process.output().lines().is_empty() && Instant::now() < until {
            sleep(LOOK_EVERY).await;
        }
        let child: u32 = process.output().lines()[0].parse().unwrap();
        assert!(cpu_time(child).is_ok());
        drop(process);
        let until = Instant::now() + Duration::from_secs(5);
        while cpu_time(child).is_ok() && Instant::now() < until {
            sleep(LOOK_EVERY).await;
        }
        assert!(cpu_time(child).is_err(), "it is left behind");
    }

    #[test]
    fn ends_with_its_owner() {
        let process = shell("exec sleep 60");
        let path = format!("/proc/{}", process.id());
        assert!(std::path::Path::new(&path).exists());
        drop(process);
        assert!(!std::path::Path::new(&path).exists());
    }
}
