//! Memory and open files of a process, as the kernel counts them, exactly.

use anyhow::Context;

use crate::process::Process;

/// Resident memory in bytes; exact, unlike the quicker figures in `status` and `statm`, which many
/// threads may leave a MiB behind.
pub fn memory_bytes(process: &Process) -> anyhow::Result<u64> {
    memory_bytes_of(process.id())
}

/// As [`memory_bytes`], of whatever process has this id.
pub fn memory_bytes_of(id: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{id}/smaps_rollup");
    let maps = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    resident_bytes(&maps).with_context(|| format!("no Rss in {path}"))
}

/// How many files and sockets are open.
pub fn open_files(process: &Process) -> anyhow::Result<usize> {
    let path = format!("/proc/{}/fd", process.id());
    Ok(std::fs::read_dir(&path).with_context(|| format!("read {path}"))?.count())
}

fn resident_bytes(maps: &str) -> Option<u64> {
    let kibibytes = maps.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    Some(kibibytes.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_seen_from_outside() {
        let process = Process::start("sleep", Command::new("sleep").arg("60")).unwrap();
        assert!(memory_bytes(&process).unwrap() >= 4096);
        assert!(open_files(&process).unwrap() >= 3);
        let maps = "00400000-7fff [rollup]\nRss:             2040 kB\nPss: 1 kB\n";
        assert_eq!(resident_bytes(maps), Some(2040 * 1024));
        assert_eq!(resident_bytes("Pss: 1 kB\n"), None);
    }
}
