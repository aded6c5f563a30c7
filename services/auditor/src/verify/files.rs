//! Rows in files, as exports and archives have them: found again by chain and number, in whatever
//! order they were written.
//!
//! A first pass notes where each row is; rows themselves are read when it is their turn, so a file
//! may be larger than the memory.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};

use crate::chain::Hash;
use crate::event::Row;
use crate::ndjson;
use crate::verify::walk::Walker;

/// Longest line; a raw record in base64 and the rest.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Where a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// Its chain.
    pub chain_id: i16,
    /// Its number.
    pub seq: i64,
    file: usize,
    offset: u64,
}

/// Files with rows.
#[derive(Debug, Default)]
pub struct Files {
    readers: Vec<(PathBuf, BufReader<File>, u64)>,
    /// All rows, by chain and number.
    pub lines: Vec<Line>,
    /// Hash of each file, in the order in which they were given.
    pub hashes: Vec<(PathBuf, Hash)>,
    /// Lines that are no rows.
    pub damage: Vec<String>,
}

impl Files {
    /// Looks through files.
    pub fn open(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let mut files = Self::default();
        for path in paths {
            files.scan(path).with_context(|| format!("read {}", path.display()))?;
        }
        files.lines.sort_unstable();
        Ok(files)
    }

    fn scan(&mut self, path: &Path) -> anyhow::Result<()> {
        let mut reader = BufReader::new(File::open(path)?);
        let mut hash = Sha256::new();
        let (mut line, mut offset, mut number) = (Vec::new(), 0, 0);
        loop {
            line.clear();
            let bytes = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? as u64;
            if bytes == 0 {
                break;
            }
            number += 1;
            ensure!(bytes < LINE_BYTES_MAX, "line {number} is too long");
            hash.update(&line);
            match ndjson::read(&line) {
                Ok(Row { chain_id, seq, .. }) => {
                    self.lines.push(Line { chain_id, seq, file: self.readers.len(), offset });
                }
                Err(error) => self.damage.push(format!("{} line {number}: {error}", path.display())),
            }
            offset += bytes;
        }
        self.hashes.push((path.to_owned(), hash.finalize().into()));
        // Where the reader stands: at the end.
        self.readers.push((path.to_owned(), reader, offset));
        Ok(())
    }

    /// The rows of a chain, as a range of [`Self::lines`].
    pub fn of_chain(&self, chain_id: i16) -> std::ops::Range<usize> {
        let begin = self.lines.partition_point(|line| line.chain_id < chain_id);
        let end = self.lines.partition_point(|line| line.chain_id <= chain_id);
        begin..end
    }

    /// Gives a row to a walker.
    pub fn feed(&mut self, line: Line, walker: &mut Walker) -> anyhow::Result<()> {
        let (path, reader, at) = &mut self.readers[line.file];
        if *at != line.offset {
            reader.seek(SeekFrom::Start(line.offset))?;
        }
        let mut bytes = Vec::new();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
        *at = line.offset + read.with_context(|| format!("read {}", path.display()))? as u64;
        match ndjson::read(&bytes) {
            Ok(row) => walker.row(&row),
            Err(error) => walker.unreadable(line.seq, &error.to_string()),
        }
        Ok(())
    }
}
