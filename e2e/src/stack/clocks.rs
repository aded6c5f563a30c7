//! Clocks of single programs that can be stepped: `libfaketime`, loaded before each of them, reads what
//! to add to the wall clock from a file. The clock that nobody can set (`Instant`) is left alone.
//!
//! Where the library is missing there are none, and whoever wants them learns so. The broker cannot be
//! started with it: the library gives memory back before the broker's allocator is there to take it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;

/// Where the library is, if it is not where Debian puts it.
const VARIABLE: &str = "LIBFAKETIME";
const DEBIAN: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];

/// What the library keeps for a process, and removes only if that ends in order: begins of paths, the
/// process id follows.
pub const LEFTOVERS: &[&str] = &["/dev/shm/faketime_shm_", "/dev/shm/sem.faketime_sem_"];

/// The clocks of programs, by name.
#[derive(Debug)]
pub struct Clocks {
    library: PathBuf,
    folder: TempDir,
}

impl Clocks {
    /// For programs that are not started yet.
    pub fn new() -> anyhow::Result<Self> {
        let given = std::env::var_os(VARIABLE).map(PathBuf::from);
        let library = given.into_iter().chain(DEBIAN.map(PathBuf::from)).find(|path| path.is_file());
        let library = library.with_context(|| format!("no libfaketime: install it, or set {VARIABLE}"))?;
        let folder = tempfile::Builder::new().prefix("latchline-clocks-").tempdir()?;
        Ok(Self { library, folder })
    }

    /// What the environment of a program must have, so that its clock can be stepped.
    pub fn environment(&self, name: &str) -> anyhow::Result<[(&'static str, String); 5]> {
        self.step(name, 0)?;
        Ok([
            ("LD_PRELOAD", shown(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", shown(&self.file(name))),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ])
    }

    /// Sets a program's clock to so many seconds after the true time. It sees this within a second.
    pub fn step(&self, name: &str, seconds: i64) -> anyhow::Result<()> {
        let (file, next) = (self.file(name), self.file("next"));
        std::fs::write(&next, format!("{seconds:+}")).context("write a clock")?;
        // It is read whole at any time.
        std::fs::rename(&next, &file).context("step a clock")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use latchline_shared::kit::clock;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_macros, reason = "a test that does not run says so")]
    fn a_clock_is_stepped() {
        let clocks = match Clocks::new() {
            Ok(clocks) => clocks,
            Err(why) => return eprintln!("SKIPPED, nothing was tested: {why:#}"),
        };
        for seconds in [0, 3_600, -3_600] {
            let environment = clocks.environment("date").unwrap();
            clocks.step("date", seconds).unwrap();
            let output = Command::new("date").arg("+%s").envs(environment).output().unwrap();
            let shown: i64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
            let now = i64::try_from(clock::unix_ms() / 1_000).unwrap();
            assert!((shown - now - seconds).abs() <= 5, "{shown} is {seconds} s after {now}");
        }
    }
}
