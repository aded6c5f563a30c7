//! Which files there are: those that are built in, and those of a folder, which win by name.
//!
//! `{locale}/{event or kind}.{part}` has the words of a language, `{event or kind}.{part}` beside the
//! languages serves those that have none of their own, `layout.*` is what bodies are put into, and
//! `{locale}/phrases.toml` has the phrases. Invariant: a file of the folder that would never be used is an
//! error, since its author believes that it is.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::event::EventType;

/// Longest file.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// The phrases of a language.
pub(super) const PHRASES: &str = "phrases.toml";
/// The language that every other falls back to.
pub(super) const LAST_LOCALE: &str = "en";
/// Parts of messages.
pub(super) const PARTS: [&str; 4] = ["subject.txt", "body.txt", "body.html", "sms.txt"];
/// What events have in common.
const KINDS: [&str; 5] = ["result", "alarm", "digest", "verification", "test"];
/// What bodies are put into.
const LAYOUTS: [&str; 2] = ["layout.txt", "layout.html"];

macro_rules! built_in {
    ($($name:literal,)+) => { &[$(($name, include_str!(concat!("../../templates/", $name))),)+] };
}

/// Name and text of what is built in.
const BUILT_IN: &[(&str, &str)] = built_in![
    "layout.txt",
    "layout.html",
    "result.body.txt",
    "result.body.html",
    "alarm.body.txt",
    "alarm.body.html",
    "digest.body.txt",
    "digest.body.html",
    "verification.body.txt",
    "verification.body.html",
    "test.body.txt",
    "test.body.html",
    "en/phrases.toml",
    "en/result.subject.txt",
    "en/result.sms.txt",
    "en/alarm.subject.txt",
    "en/alarm.sms.txt",
    "en/digest.subject.txt",
    "en/digest.sms.txt",
    "en/verification.subject.txt",
    "en/verification.sms.txt",
    "en/test.subject.txt",
    "en/test.sms.txt",
    "ja/phrases.toml",
    "ja/result.subject.txt",
    "ja/result.sms.txt",
    "ja/alarm.subject.txt",
    "ja/alarm.sms.txt",
    "ja/digest.subject.txt",
    "ja/digest.sms.txt",
    "ja/verification.subject.txt",
    "ja/verification.sms.txt",
    "ja/test.subject.txt",
    "ja/test.sms.txt",
];

/// A file.
#[derive(Debug, Clone)]
pub(super) struct File {
    /// Where it is, for people.
    pub(super) place: String,
    /// What is in it.
    pub(super) text: String,
    /// Whether it is the folder's.
    pub(super) is_override: bool,
}

/// Files by name.
pub(super) type Files = BTreeMap<String, File>;

/// What is built in.
pub(super) fn built_in() -> Files {
    let file = |text: &str, name: &str| File {
        place: format!("templates/{name}"),
        text: text.to_owned(),
        is_override: false,
    };
    BUILT_IN.iter().map(|(name, text)| ((*name).to_owned(), file(text, name))).collect()
}

/// What is in the folder.
pub(super) fn of_folder(folder: &Path) -> anyhow::Result<Files> {
    let mut files = Files::new();
    for (name, path) in entries(folder)? {
        if !path.is_dir() {
            ensure!(is_part(&name) || LAYOUTS.contains(&name.as_str()), "{}: unknown file", path.display());
            files.insert(name, read(&path)?);
            continue;
        }
        let locale = normal(&name);
        ensure!(is_locale(&locale), "{}: is no locale, such as en or pt-br", path.display());
        for (name, path) in entries(&path)? {
            ensure!(name == PHRASES || is_part(&name), "{}: unknown file", path.display());
            let twice = files.insert(format!("{locale}/{name}"), read(&path)?);
            ensure!(twice.is_none(), "{}: the locale has another folder", path.display());
        }
    }
    Ok(files)
}

/// Names and paths, in order. What begins with a dot is of the system (Kubernetes keeps `..data`).
fn entries(folder: &Path) -> anyhow::Result<Vec<(String, std::path::PathBuf)>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        let Ok(name) = entry.file_name().into_string() else {
            bail!("{}: the name is not UTF-8", entry.path().display());
        };
        if !name.starts_with('.') {
            entries.push((name, entry.path()));
        }
    }
    entries.sort();
    Ok(entries)
}

fn read(path: &Path) -> anyhow::Result<File> {
    let place = path.display().to_string();
    let size = std::fs::metadata(path).with_context(|| format!("cannot read {place}"))?.len();
    ensure!(size <= FILE_BYTES_MAX, "{place}: has more than {FILE_BYTES_MAX} bytes");
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {place}"))?;
    Ok(File { place, text, is_override: true })
}

fn is_part(name: &str) -> bool {
    name.split_once('.').is_some_and(|(of, part)| {
        PARTS.contains(&part) && (KINDS.contains(&of) || EventType::from_name(of).is_some())
    })
}

/// A language tag as we write it.
pub(super) fn normal(locale: &str) -> String {
    locale.to_ascii_lowercase().replace('_', "-")
}

fn is_locale(tag: &str) -> bool {
    let mut parts = tag.split('-');
    let is_language = parts.next().is_some_and(|part| matches!(part.len(), 2 | 3) && is_word(part));
    is_language && parts.all(|part| (1..=8).contains(&part.len()) && is_word(part))
}

fn is_word(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The locale and what it falls back to: `pt-br`, `pt`.
pub(super) fn chain(locale: &str) -> Vec<String> {
    let mut tag = normal(locale);
    let mut chain = Vec::new();
    // No tag that is used has more parts; a longer one is nonsense.
    for _ in 0..4 {
        chain.push(tag.clone());
        match tag.rfind('-') {
            Some(at) => tag.truncate(at),
            None => break,
        }
    }
    chain
}

/// The file that serves: first in the language, then without one, then in English; each time of the event
/// itself before that of its kind.
pub(super) fn find(
    has: impl Fn(&str) -> bool,
    locale: &str,
    event: EventType,
    kind: &str,
    part: &str,
) -> Option<String> {
    let folders = chain(locale).into_iter().map(|tag| format!("{tag}/"));
    let folders = folders.chain([String::new(), format!("{LAST_LOCALE}/")]);
    folders
        .flat_map(|folder| [event.name(), kind].map(|of| format!("{folder}{of}.{part}")))
        .find(|name| has(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locale_falls_back() {
        assert_eq!(chain("ja_JP"), ["ja-jp", "ja"]);
        assert_eq!(chain("en"), ["en"]);
        assert_eq!(chain("zh-Hant-TW-x-a-b").len(), 4);
        for (tag, is_one) in [
            ("ja", true),
            ("pt-br", true),
            ("zh-hant-tw", true),
            ("j", false),
            ("english", false),
            ("ja-", false),
            ("", false),
            ("../x", false),
        ] {
            assert_eq!(is_locale(tag), is_one, "{tag}");
        }
    }

    #[test]
    fn the_nearest_file_serves() {
        let find = |files: &[&str], locale: &str, part| {
            find(|name| files.contains(&name), locale, EventType::Unlocked, "result", part)
        };
        let some = ["ja/result.sms.txt", "en/unlocked.sms.txt", "en/result.sms.txt", "result.body.txt"];
        assert_eq!(find(&some, "ja-JP", "sms.txt").as_deref(), Some("ja/result.sms.txt"));
        assert_eq!(find(&some, "en-GB", "sms.txt").as_deref(), Some("en/unlocked.sms.txt"));
        assert_eq!(find(&some, "fr", "sms.txt").as_deref(), Some("en/unlocked.sms.txt"));
        assert_eq!(find(&some, "ja", "body.txt").as_deref(), Some("result.body.txt"));
        assert_eq!(find(&some, "ja", "body.html"), None);
    }
}
