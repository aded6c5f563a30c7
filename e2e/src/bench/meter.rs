//! Memory and open files of a process, as the kernel counts them, exactly.

use anyhow::{Context, bail};

use crate::process::{Process, children};

/// On the machines that we build for.
const PAGE_BYTES: u64 = 4096;

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

/// Resident memory of a process and of its children, each shared page once. Quick, and so not exact: for
/// who looks again and again at a process that must not be disturbed.
pub fn family_memory_bytes(id: u32) -> anyhow::Result<u64> {
    // A child may have ended meanwhile.
    let family = children(id)?.into_iter().filter_map(|child| resident_pages(child).ok());
    let pages: Vec<_> = std::iter::once(resident_pages(id)?).chain(family).collect();
    let shared = pages.iter().map(|(_, shared)| shared).max().copied().unwrap_or_default();
    let own: u64 = pages.iter().map(|(resident, shared)| resident.saturating_sub(*shared)).sum();
    Ok((own + shared) * PAGE_BYTES)
}

/// Resident pages, and how many of them may be shared.
fn resident_pages(id: u32) -> anyhow::Result<(u64, u64)> {
    let path = format!("/proc/{id}/statm");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let mut numbers = text.split_ascii_whitespace().skip(1).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(resident)), Some(Ok(shared))) => Ok((resident, shared)),
        _ => bail!("{path} says {text:?}"),
    }
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
        assert!(family_memory_bytes(process.id()).unwrap() >= 4096);
        assert!(open_files(&process).unwrap() >= 3);
        let maps = "00400000-7fff [rollup]\nRss:             2040 kB\nPss: 1 kB\n";
        assert_eq!(resident_bytes(maps), Some(2040 * 1024));
        assert_eq!(resident_bytes("Pss: 1 kB\n"), None);
    }
}
