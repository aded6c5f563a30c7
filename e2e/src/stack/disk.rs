//! A disk of its own for somebody's data, that can be filled up: a small file system in memory. Where
//! mounting is not permitted there is none, and whoever wants one learns why.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, ensure};
use tempfile::TempDir;

/// The file that takes the space that is left.
const BALLAST: &str = "ballast";
/// First in large pieces, then to the last page.
const PIECES_BYTES: [usize; 2] = [1 << 20, 1 << 12];

/// A mounted file system. It is unmounted with the last that holds it, so whoever writes on it ends before.
#[derive(Debug, Clone)]
pub struct Disk(Arc<Mounted>);

#[derive(Debug)]
struct Mounted(TempDir);

impl Disk {
    /// Mounts one of this size.
    pub fn mount(megabytes: u64) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("latchline-disk-").tempdir()?;
        // A server that is another user goes through it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let options = format!("size={megabytes}m,mode=0755");
        let arguments = ["-t", "tmpfs", "-o", options.as_str(), "latchline"];
        let output = Command::new("mount").args(arguments).arg(folder.path()).output().context("mount")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(Self(Arc::new(Mounted(folder))))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.0.path()
    }

    /// Takes all space that is left.
    pub async fn fill(&self) -> anyhow::Result<()> {
        let disk = self.clone();
        tokio::task::spawn_blocking(move || disk.fill_now()).await?
    }

    fn fill_now(&self) -> anyhow::Result<()> {
        let mut ballast = File::create(self.ballast()).context("create ballast")?;
        for bytes in PIECES_BYTES {
            let piece = vec![0; bytes];
            loop {
                match ballast.write(&piece) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("write ballast"),
                }
            }
        }
        Ok(())
    }

    /// Gives the space back.
    pub fn relieve(&self) -> anyhow::Result<()> {
        fs::remove_file(self.ballast()).context("remove ballast")
    }

    fn ballast(&self) -> PathBuf {
        self.path().join(BALLAST)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Whoever still has a file open keeps it until he ends; nobody is left to tell if this fails.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_macros, reason = "a test that does not run says so")]
    fn a_disk_is_full_until_it_is_relieved() {
        let disk = match Disk::mount(1) {
            Ok(disk) => disk,
            Err(why) => return eprintln!("SKIPPED, nothing was tested: {why:#}"),
        };
        let path = disk.path().to_owned();
        let data = path.join("data");
        fs::write(&data, "before").unwrap();
        disk.fill_now().unwrap();
        let error = fs::write(path.join("more"), "after").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        disk.relieve().unwrap();
        fs::write(path.join("more"), "after").unwrap();
        assert_eq!(fs::read_to_string(data).unwrap(), "before");
        drop(disk);
        assert!(!path.exists());
    }
}
