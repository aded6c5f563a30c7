//! Where Apache Kafka's jars come from: Maven, once, into a cache folder.
//!
//! No Docker and no download page: Maven resolves the server's dependencies from a small pom and
//! checks them, and every later run finds them in `~/.cache/latchline/kafka-4.1.0`. The folder is
//! filled under another name and renamed, so that a run that was interrupted, or two at once,
//! leave no half-filled cache.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// The version that is fetched; the pom names the same one (a test compares them).
pub const VERSION: &str = "4.1.0";

const POM: &str = include_str!("pom.xml");
const JAVA_VERSION_MIN: u32 = 17;

/// Whether Apache Kafka can be started here: Java 17 or newer, and Maven or a filled cache.
pub fn available() -> bool {
    java_version().is_some_and(|version| version >= JAVA_VERSION_MIN)
        && (cache_folder().is_ok_and(|folder| folder.is_dir())
            || succeeds(Command::new("mvn").arg("-version")))
}

/// The folder with the jars, fetched if they are not there yet.
pub fn folder() -> anyhow::Result<PathBuf> {
    let folder = cache_folder()?;
    if folder.is_dir() {
        return Ok(folder);
    }
    let parent = folder.parent().context("the cache folder has no parent")?;
    std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    let work = tempfile::tempdir_in(parent)?;
    fetch(work.path())?;
    match std::fs::rename(work.path().join("libs"), &folder) {
        // Somebody else was faster.
        Err(_) if folder.is_dir() => {}
        result => result.with_context(|| format!("create {}", folder.display()))?,
    }
    Ok(folder)
}

/// The `java` to run: of `JAVA_HOME` if that is set, else the one on the path.
pub fn java() -> PathBuf {
    std::env::var_os("JAVA_HOME").map_or_else(|| "java".into(), |home| Path::new(&home).join("bin/java"))
}

fn fetch(work: &Path) -> anyhow::Result<()> {
    let pom = work.join("pom.xml");
    std::fs::write(&pom, POM).with_context(|| format!("write {}", pom.display()))?;
    let output = Command::new("mvn")
        .args(["--batch-mode", "--quiet", "-DincludeScope=runtime", "dependency:copy-dependencies"])
        .arg(format!("-DoutputDirectory={}", work.join("libs").display()))
        .arg("-f")
        .arg(&pom)
        .stdin(Stdio::null())
        .output()
        .context("start Maven (mvn)")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout);
        let first: Vec<&str> = text.lines().take(5).collect();
        bail!("fetch Apache Kafka {VERSION} with Maven: {}: {}", output.status, first.join("\n"));
    }
    Ok(())
}

fn cache_folder() -> anyhow::Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(&std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    Ok(base.join("latchline").join(format!("kafka-{VERSION}")))
}

fn java_version() -> Option<u32> {
    let output = Command::new(java()).arg("-version").stdin(Stdio::null()).output().ok()?;
    parse_java_version(&String::from_utf8_lossy(&output.stderr))
}

/// The major version in `openjdk version "17.0.15" 2025-04-15`; Java 8 calls itself 1.8.
fn parse_java_version(text: &str) -> Option<u32> {
    let quoted = text.split('"').nth(1)?;
    let digits = quoted.strip_prefix("1.").unwrap_or(quoted);
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_versions_are_read() {
        for (text, expected) in [
            ("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime…", Some(17)),
            ("openjdk version \"21\" 2023-09-19", Some(21)),
            ("java version \"1.8.0_402\"", Some(8)),
            ("openjdk version \"25-ea\" 2025-09-16", Some(25)),
            ("bash: java: command not found", None),
            ("", None),
        ] {
            assert_eq!(parse_java_version(text), expected, "{text}");
        }
    }

    #[test]
    fn the_pom_names_the_version() {
        assert!(POM.contains(&format!("<version>{VERSION}</version>")));
    }
}
