//! Real processes: the test binary starts itself with only the test `child`, which runs a small
//! program and ends with its exit code.

use std::io::{BufRead, BufReader};
use std::process::{Child, Output, Stdio};

use serde::Deserialize;
use serde_json::Value;

use super::*;

/// The child's command line, separated by spaces; the child does nothing without it.
const ARGUMENTS: &str = "RUN_TEST_ARGUMENTS";

const PROGRAM: Program = Program {
    name: "latchline-test",
    about: "a program that does as it is told",
    version: "1.2.3",
    default_toml: "behaviour = \"wait\"\ntoken = \"\"\naddress = \"\"\n[log]\nlevel = \"info\"\nformat = \"json\"\n",
    env_prefix: "LATCHLINE_RUN_TEST",
};

#[derive(Deserialize)]
struct Test {
    behaviour: String,
    #[serde(deserialize_with = "config::value::optional")]
    token: Option<secrecy::SecretString>,
    #[serde(deserialize_with = "config::value::optional")]
    address: Option<SocketAddr>,
    log: Log,
}

impl Validate for Test {
    fn problems(&self, problems: &mut Vec<String>) {
        self.log.problems(problems);
        if self.token.is_some() && self.behaviour == "wait" {
            problems.push("token: waiting needs none".to_owned());
        }
    }
}

impl Settings for Test {
    fn log(&self) -> &Log {
        &self.log
    }

    fn shutdown_deadline(&self) -> Duration {
        Duration::from_millis(200)
    }

    fn http_address(&self) -> Option<SocketAddr> {
        self.address
    }
}

#[derive(Subcommand)]
enum TestCommand {
    /// Looks at something and says whether it is well.
    Look { how: String },
}

impl Commands<Test> for TestCommand {
    async fn execute(self, settings: Test) -> anyhow::Result<Exit> {
        let Self::Look { how } = self;
        answer(&format!("{} {how}\n", settings.behaviour));
        match how.as_str() {
            "well" => Ok(Exit::Done),
            "ill" => Ok(Exit::Failed),
            _ => Err(anyhow!("cannot look")),
        }
    }
}

async fn serve(settings: Test, shutdown: Shutdown) -> anyhow::Result<()> {
    info!(listener = "tcp", address = "127.0.0.1:1883", "listening");
    match settings.behaviour.as_str() {
        "wait" => {}
        "return" => return Ok(()),
        "fail" => return Err(anyhow!("address in use")),
        "panic" => panic!("on purpose"),
        "print" => print_on_stderr(),
        "panic in task" => shutdown.spawn("frail", async { panic!("on purpose") }),
        "deaf task" => shutdown.spawn("deaf", std::future::pending()),
        "deaf" => return std::future::pending().await,
        other => return Err(anyhow!("unknown behaviour {other}")),
    }
    shutdown.requested().await;
    Ok(())
}

#[expect(clippy::disallowed_macros, reason = "it panics where standard error is broken")]
fn print_on_stderr() {
    eprintln!("on purpose");
}

/// Not a test of its own: the program that the other tests start.
#[test]
fn child() {
    if let Ok(arguments) = std::env::var(ARGUMENTS) {
        let arguments = arguments.split_whitespace().map(OsString::from);
        let arguments = std::iter::once(OsString::from(PROGRAM.name)).chain(arguments);
        let exit = execute::<TestCommand, _, _>(&PROGRAM, arguments, serve);
        std::process::exit(exit as i32);
    }
}

fn spawn(arguments: &str, settings: &[(&str, &str)]) -> Child {
    spawn_with(arguments, settings, Stdio::piped())
}

fn spawn_with(arguments: &str, settings: &[(&str, &str)], stderr: Stdio) -> Child {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "kit::run::tests::child", "--nocapture", "--test-threads=1"]);
    command.env(ARGUMENTS, arguments).stdout(Stdio::piped()).stderr(stderr);
    for (name, value) in settings {
        command.env(format!("{}__{name}", PROGRAM.env_prefix), value);
    }
    command.spawn().unwrap()
}

fn finish(child: Child) -> (i32, String, Vec<Value>, String) {
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    let lines = stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), lines, stderr)
}

/// Sends the signal as soon as the child listens: its line for that, all that follows, its code.
fn signal_when_listening(behaviour: &str, signal: &str) -> (Value, String, i32) {
    let mut child = spawn("", &[("BEHAVIOUR", behaviour)]);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let listening = lines
        .by_ref()
        .map(|line| serde_json::from_str::<Value>(&line).unwrap())
        .find(|line| line["message"] == "listening")
        .unwrap();
    // The shell's own kill: the command of that name is not on every machine.
    let kill = format!("kill -s {signal} {}", child.id());
    assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    let rest: Vec<String> = lines.collect();
    (listening, rest.join("\n"), child.wait().unwrap().code().unwrap())
}

#[test]
fn a_signal_ends_it_well() {
    for signal in ["TERM", "INT"] {
        let (listening, rest, code) = signal_when_listening("wait", signal);
        assert_eq!(listening["listener"], "tcp");
        assert_eq!(listening["address"], "127.0.0.1:1883");
        assert_eq!(listening["level"], "INFO");
        assert_eq!(code, 0, "{rest}");
        assert!(rest.contains(&format!("SIG{signal}")), "{rest}");
    }
}

#[test]
fn failures_end_it_with_1_and_say_why() {
    for (behaviour, error) in [
        ("fail", "address in use"),
        ("panic", "the main task panicked"),
        ("panic in task", "task frail panicked"),
    ] {
        let (code, _, lines, stderr) = finish(spawn("", &[("BEHAVIOUR", behaviour)]));
        assert_eq!(code, 1, "{stderr}");
        let failure = lines.iter().find(|line| line["message"] == "process failed").expect(&stderr);
        assert_eq!(failure["error"], error);
        let panics =
            lines.iter().filter(|line| line["message"] == "panicked" && line["panic"] == "on purpose");
        assert_eq!(panics.count() == 1, behaviour.contains("panic"), "{stderr}");
    }
}

#[test]
fn a_broken_standard_error_changes_nothing_but_the_log() {
    for (behaviour, expected) in
        [("return", 0), ("fail", 1), ("panic", 1), ("panic in task", 1), ("print", 1)]
    {
        let (_, nobody_reads) = std::io::pipe().unwrap();
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        for (broken, stderr) in [("nobody reads", Stdio::from(nobody_reads)), ("disk full", full.into())] {
            let child = spawn_with("", &[("BEHAVIOUR", behaviour)], stderr);
            let status = child.wait_with_output().unwrap().status;
            // By a signal, if the panic hook has panicked.
            assert_eq!(status.code(), Some(expected), "{behaviour}, {broken}: {status}");
        }
    }
}

#[test]
fn what_does_not_end_is_cut_off_at_the_deadline() {
    for (behaviour, error) in
        [("deaf", "the main task did not end within 200ms"), ("deaf task", "1 tasks still running")]
    {
        let (_, rest, code) = signal_when_listening(behaviour, "TERM");
        assert_eq!(code, 1, "{rest}");
        assert!(rest.contains(error), "{rest}");
    }
}

#[test]
fn a_main_task_that_returns_ends_it_well() {
    let (code, _, _, stderr) = finish(spawn("", &[("BEHAVIOUR", "return"), ("LOG__FORMAT", "text")]));
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains(" INFO latchline_shared::kit::run: stopped code=0"), "{stderr}");
}

#[test]
fn a_bad_configuration_ends_it_with_64_and_all_problems() {
    let bad = [("LOG__LEVEL", "info,x=loud"), ("LOG__FORMAT", "xml"), ("TYPO", "1")];
    for arguments in ["", "check", "config"] {
        let (code, stdout, _, stderr) = finish(spawn(arguments, &bad));
        assert_eq!(code, 64, "{stderr}");
        assert!(stderr.starts_with("latchline-test: the configuration has 3 problem(s):\n"), "{stderr}");
        for problem in ["LOG__FORMAT: log.format: ", "LOG__LEVEL: log.level: ", "TYPO: typo: "] {
            assert!(stderr.contains(&format!("\n  LATCHLINE_RUN_TEST__{problem}")), "{stderr}");
        }
        assert!(!stdout.contains("valid"), "{stdout}");
    }
    let (code, _, _, stderr) = finish(spawn("--config /nonexistent/x.toml", &[("TOKEN", "t")]));
    assert_eq!(code, 64);
    assert!(stderr.contains("/nonexistent/x.toml: cannot be read"), "{stderr}");
    assert!(stderr.contains("LATCHLINE_RUN_TEST__TOKEN: token: waiting needs none"), "{stderr}");
}

#[test]
fn a_bad_command_line_ends_it_with_64() {
    for arguments in ["--cofnig x", "start", "--config"] {
        let (code, _, _, stderr) = finish(spawn(arguments, &[]));
        assert_eq!(code, 64, "{arguments}: {stderr}");
        assert!(stderr.contains("For more information, try '--help'"), "{stderr}");
    }
}

#[test]
fn questions_are_answered_on_standard_output() {
    let settings = [("BEHAVIOUR", "fail"), ("TOKEN", "hunter2")];
    for (arguments, expected) in [
        ("check", "the configuration is valid\n"),
        ("config", "token = \"<redacted>\"\n"),
        ("config", "behaviour = \"fail\"\n"),
        ("--version", "latchline-test 1.2.3\n"),
        ("--help", "a program that does as it is told\n"),
    ] {
        let (code, stdout, _, stderr) = finish(spawn(arguments, &settings));
        assert_eq!((code, stderr.as_str()), (0, ""), "{arguments}");
        assert!(stdout.contains(expected) && !stdout.contains("hunter2"), "{arguments}: {stdout}");
    }
}

#[test]
fn commands_of_its_own_get_the_settings_and_decide_the_exit_code() {
    for (how, expected, complaint) in
        [("well", 0, ""), ("ill", 1, ""), ("away", 1, "latchline-test: cannot look\n")]
    {
        let (code, stdout, _, stderr) = finish(spawn(&format!("look {how}"), &[("BEHAVIOUR", "fail")]));
        assert_eq!((code, stderr.as_str()), (expected, complaint), "{how}");
        assert!(stdout.contains(&format!("fail {how}\n")), "{stdout}");
    }
    let (code, stdout, _, stderr) = finish(spawn("look well", &[("TYPO", "1")]));
    assert_eq!(code, 64, "{stdout}{stderr}");
}

#[test]
fn health_asks_the_one_that_runs() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (code, _, _, stderr) = finish(spawn("health", &[]));
    assert_eq!((code, stderr.as_str()), (1, "latchline-test: http.address is not set\n"));
    for (status, expected) in [("200 OK", 0), ("503 Service Unavailable", 1)] {
        let asking = spawn("health", &[("ADDRESS", &address)]);
        let (mut stream, _) = listener.accept().unwrap();
        // The request is of a length that nobody knows here; what has arrived is enough.
        assert!(std::io::Read::read(&mut stream, &mut [0; 1024]).unwrap() > 0);
        write!(stream, "HTTP/1.1 {status}\r\n\r\nbecause").unwrap();
        drop(stream);
        let (code, stdout, _, stderr) = finish(asking);
        assert_eq!(code, expected, "{stderr}");
        assert_eq!((stdout.contains("ready\n"), stderr.contains("503: because")), (code == 0, code == 1));
    }
}
