//! Postgres for development: an existing server by `DATABASE_URL`, else a private cluster that is
//! started from the installed binaries in a temporary or given folder.
//!
//! A private cluster listens on a port of loopback, lets in only who has its random password, and
//! ends when it is dropped or when the process ends, however that ends. As root its processes run
//! as the user `postgres`, because the server refuses to be root.
//!
//! Without a folder it is for tests: it does not wait for the disk (`fsync=off`).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use secrecy::SecretString;

use super::{Postgres, Tls};
use crate::hex;

/// Environment variable with an existing server, whose user may create databases and roles.
pub const URL_VARIABLE: &str = "DATABASE_URL";
/// The user of a private cluster, its owner.
const USER: &str = "latchline";
/// The system's user that the server runs as when we are root.
const SYSTEM_USER: &str = "postgres";
/// Name of the file with the password.
const PASSWORD_FILE: &str = "password";
/// Begin of the names of temporary folders.
const FOLDER: &str = "latchline-postgres-";
const LOG: &str = "log";
const WAL: &str = "max_wal_size=4GB";
const WAL_OF_SMALL: &str = "max_wal_size=96MB";
/// Longer than making a cluster takes.
const ABANDONED_AFTER: Duration = Duration::from_secs(300);
const START_DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A private cluster; it ends when dropped.
#[derive(Debug)]
pub struct DevelopmentPostgres {
    /// The folder that everything is in; removed with the cluster if it is temporary.
    folder: PathBuf,
    is_temporary: bool,
    port: u16,
    /// How much it writes ahead before it makes a checkpoint, which is what it needs beside its data.
    wal: &'static str,
    password: String,
    server: Option<Server>,
}

/// A running server, waited for by the thread that started it: the kernel ends the server when
/// that thread ends, so the thread lives as long as this.
#[derive(Debug)]
struct Server {
    stop: mpsc::Sender<Signal>,
    thread: Option<JoinHandle<()>>,
    /// How it ended, once it has.
    ended: Arc<OnceLock<ExitStatus>>,
}

/// How the server shall end.
#[derive(Debug, Clone, Copy)]
enum Signal {
    /// Ends connections, writes everything down (`SIGINT`, the server's fast shutdown).
    Fast,
    /// As a power cut (`SIGQUIT`, its immediate shutdown).
    Immediate,
}

impl DevelopmentPostgres {
    /// Starts a cluster for tests in a temporary folder.
    pub fn start() -> anyhow::Result<Self> {
        remove_what_others_left();
        let folder = std::env::temp_dir().join(format!("{FOLDER}{}", random_hex::<8>()?));
        Self::open(folder, true, free_port()?, WAL)
    }

    /// Starts a cluster that keeps its data in `folder`, which is made if it is missing.
    pub fn start_in(folder: &Path, port: u16) -> anyhow::Result<Self> {
        Self::open(folder.to_owned(), false, port, WAL)
    }

    /// As [`Self::start_in`], with little more than its data on the disk.
    pub fn start_small(folder: &Path, port: u16) -> anyhow::Result<Self> {
        Self::open(folder.to_owned(), false, port, WAL_OF_SMALL)
    }

    fn open(folder: PathBuf, is_temporary: bool, port: u16, wal: &'static str) -> anyhow::Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let password_file = folder.join(PASSWORD_FILE);
        let password = match fs::read_to_string(&password_file) {
            Ok(password) => password,
            Err(_) => random_hex::<16>()?,
        };
        let mut cluster = Self { folder, is_temporary, port, wal, password, server: None };
        if !cluster.data().join("PG_VERSION").exists() {
            cluster.initialise(&password_file)?;
        }
        cluster.resume()?;
        Ok(cluster)
    }

    /// How to reach `database` in this cluster.
    pub fn settings(&self, database: &str) -> Postgres {
        settings(&format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port), Some(&self.password))
    }

    /// The same as a URL with the password in it, for `psql`.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The file that holds the user's password.
    pub fn password_file(&self) -> PathBuf {
        self.folder.join(PASSWORD_FILE)
    }

    /// The process of the server, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        let status = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        status.lines().next()?.trim().parse().ok()
    }

    /// Whether the server has not ended, by itself or otherwise.
    pub fn is_running(&self) -> bool {
        let thread = self.server.as_ref().and_then(|server| server.thread.as_ref());
        thread.is_some_and(|thread| !thread.is_finished())
    }

    /// How the server ended, if it has and nobody has told it to.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.server.as_ref()?.ended.get().copied()
    }

    /// What the server has written since it was started last.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join(LOG)).unwrap_or_default()
    }

    /// Ends the server as an operator would; the port refuses connections until [`Self::resume`].
    pub fn stop(&mut self) {
        self.end(Signal::Fast);
    }

    /// Ends the server as a power cut would.
    pub fn crash(&mut self) {
        self.end(Signal::Immediate);
    }

    /// Starts the server again, on the same port with the same data.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        ensure!(self.server.is_none(), "postgres is running");
        let mut command = as_server_user(&program("postgres")?)?;
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        for setting in
            ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200", self.wal]
        {
            command.args(["-c", setting]);
        }
        if self.is_temporary {
            command.args(["-c", "fsync=off", "-c", "full_page_writes=off"]);
        }
        let log = File::create(self.folder.join(LOG)).context("create the log of postgres")?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let (stop, orders) = mpsc::channel();
        let (started, start) = mpsc::channel();
        let ended = Arc::new(OnceLock::new());
        let how = Arc::clone(&ended);
        let thread = thread::Builder::new().name("development-postgres".to_owned()).spawn(move || {
            match command.spawn() {
                Ok(child) => {
                    let _ = started.send(Ok(()));
                    watch(child, &orders, &how);
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        })?;
        start.recv().context("the thread of postgres ended")?.context("start postgres")?;
        self.server = Some(Server { stop, thread: Some(thread), ended });
        self.wait_until_ready()
    }

    fn initialise(&self, password_file: &Path) -> anyhow::Result<()> {
        fs::write(password_file, &self.password).context("write the password of postgres")?;
        fs::create_dir_all(self.data())?;
        give_to_server_user(&self.folder)?;
        let output = as_server_user(&program("initdb")?)?
            .arg("-D")
            .arg(self.data())
            .args(["-U", USER, "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", "--no-sync"])
            .arg("--pwfile")
            .arg(password_file)
            .output()
            .context("run initdb")?;
        ensure!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn wait_until_ready(&self) -> anyhow::Result<()> {
        let until = Instant::now() + START_DEADLINE;
        loop {
            // Its last line says: ready.
            let status = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            if status.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
                return Ok(());
            }
            if !self.is_running() {
                bail!("postgres ended at its start:\n{}", self.log());
            }
            ensure!(Instant::now() < until, "postgres is not up after {START_DEADLINE:?}:\n{}", self.log());
            thread::sleep(LOOK_EVERY);
        }
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut server) = self.server.take() {
            // The thread may have ended with the server.
            let _ = server.stop.send(signal);
            if let Some(thread) = server.thread.take() {
                // A panic there has been reported by the panic hook.
                let _ = thread.join();
            }
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}

impl Drop for DevelopmentPostgres {
    fn drop(&mut self) {
        self.end(if self.is_temporary { Signal::Immediate } else { Signal::Fast });
        if self.is_temporary {
            // Nobody is left to tell if this fails.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// How to reach the database that a `url` names.
pub fn settings(url: &str, password: Option<&str>) -> Postgres {
    Postgres {
        url: SecretString::from(url),
        password: password.map(SecretString::from),
        password_file: None,
        tls: Tls::Disable,
        ca_file: None,
        connections_max: 16,
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(30),
    }
}

/// Removes the folders of processes that ended without dropping their cluster, as a test binary
/// does with a cluster that all its tests share.
fn remove_what_others_left() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for folder in entries.flatten().map(|entry| entry.path()) {
        let is_ours = folder.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(FOLDER));
        // The server removes its lock file when it ends, and a folder that is being made is young.
        let is_old = fs::metadata(&folder)
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED_AFTER));
        if is_ours && is_old && !folder.join("data/postmaster.pid").exists() {
            // Somebody else may be removing it, too.
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

/// Waits until the server ends or shall end.
fn watch(mut child: Child, orders: &mpsc::Receiver<Signal>, ended: &OnceLock<ExitStatus>) {
    loop {
        match orders.recv_timeout(LOOK_EVERY) {
            Err(mpsc::RecvTimeoutError::Timeout) => match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => {
                    // There is only this thread to say so.
                    let _ = ended.set(status);
                    return;
                }
                Err(_) => return,
            },
            Ok(signal) => return end(&mut child, signal),
            Err(mpsc::RecvTimeoutError::Disconnected) => return end(&mut child, Signal::Immediate),
        }
    }
}

fn end(child: &mut Child, signal: Signal) {
    let name = match signal {
        Signal::Fast => "INT",
        Signal::Immediate => "QUIT",
    };
    // By the shell, whose `kill` is there even where the program is not. Who stands still (SIGSTOP) hears
    // of it only when he may go on: its children first, so that none of them is missed.
    let id = child.id();
    let kill = format!("kill -s {name} {id}; kill -s CONT $(cat /proc/{id}/task/{id}/children) {id}");
    let _ = Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status();
    let _ = child.wait();
}

/// A program of Postgres: in the path, else where Debian keeps it, the newest version.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join(name));
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path().join("bin").join(name))).collect())
        .unwrap_or_default();
    versions.sort();
    in_path
        .chain(versions.into_iter().rev())
        .find(|path| path.is_file())
        .with_context(|| format!("no program {name}: install PostgreSQL, or set {URL_VARIABLE}"))
}

/// The server refuses to be root, and ends with the thread that started it.
fn as_server_user(program: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if is_root()? {
        command.args(["--reuid", SYSTEM_USER, "--regid", SYSTEM_USER, "--init-groups"]);
    }
    // A folder that its user may enter.
    command.arg("--").arg(program).current_dir("/");
    Ok(command)
}

fn give_to_server_user(folder: &Path) -> anyhow::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    if is_root()? {
        let owner = OsStr::new(SYSTEM_USER);
        let status = Command::new("chown").arg("-R").arg(owner).arg(folder).status().context("run chown")?;
        ensure!(status.success(), "{} cannot be given to {SYSTEM_USER}", folder.display());
    }
    Ok(())
}

fn is_root() -> anyhow::Result<bool> {
    Ok(fs::metadata("/proc/self").context("look at /proc/self")?.uid() == 0)
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .context("find a port")?
        .port())
}

fn random_hex<const N: usize>() -> anyhow::Result<String> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("read /dev/urandom")?;
    Ok(hex::encode(&bytes))
}
