//! The words: templates, phrases, and how they are filled.
//!
//! What is said of an event is in the phrases of a language (`phrases`), how it is put together in
//! templates (`files`); what a template sees is a [`view`]. Facts come from strangers: they are cleaned
//! before a template sees them (`clean`), pages escape them, a subject is one line, and an SMS fits one
//! segment (`sms`) whatever is in it.
//!
//! Invariant: what was loaded can be filled with any facts: it was tried (`check`; of what is built in a
//! test does that).

mod check;
mod clean;
mod files;
mod payload;
mod phrases;
mod sample;
pub mod settings;
pub mod sms;
mod view;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, ensure};
use jiff::tz::TimeZone;
use latchline_shared::alarm::Change;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::event::{Channel, EventType, Facts, Severity};
use files::{Files, LAST_LOCALE, PARTS, PHRASES};
use phrases::Phrases;
use sms::Fitted;
use view::{Reader, View};

pub use sample::CHANGES;

/// Longest subject.
const SUBJECT_UNITS_MAX: usize = 150;
/// How much of a lock's name an SMS has at least: the end of an id.
const LOCK_UNITS_MIN: usize = 6;

/// All templates and phrases.
#[derive(Debug)]
pub struct Templates {
    environment: Environment<'static>,
    files: Files,
    locales: BTreeMap<String, Phrases>,
}

/// A message's words, by channel.
#[derive(Debug, Clone, PartialEq)]
pub enum Rendered {
    /// An e-mail.
    Email {
        /// One line.
        subject: String,
        /// The text.
        text: String,
        /// The same as a page.
        html: String,
    },
    /// An SMS.
    Sms {
        /// One segment.
        text: String,
    },
    /// A webhook.
    Webhook {
        /// The body.
        body: serde_json::Value,
    },
}

impl Rendered {
    /// Its texts, by part.
    fn parts(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Email { subject, text, html } => {
                vec![("subject.txt", subject), ("body.txt", text), ("body.html", html)]
            }
            Self::Sms { text } => vec![("sms.txt", text)],
            Self::Webhook { .. } => Vec::new(),
        }
    }
}

/// Which file serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Listed {
    /// What happened.
    pub event_type: &'static str,
    /// What it has in common with others; `unlock_failed` is a result and an alarm.
    pub kind: &'static str,
    /// `subject.txt`, `body.txt`, `body.html` or `sms.txt`.
    pub part: &'static str,
    /// The language.
    pub locale: String,
    /// The file.
    pub file: String,
    /// Whether it is the folder's; otherwise it is built in.
    pub overridden: bool,
}

impl Templates {
    /// Those that are built in, and what the folder has instead.
    pub fn load(folder: Option<&Path>) -> anyhow::Result<Self> {
        let mut files = files::built_in();
        let mut documents = BTreeMap::new();
        for locale in ["en", "ja"] {
            let file = files.remove(&format!("{locale}/{PHRASES}")).context("phrases are missing")?;
            documents.insert(locale.to_owned(), (file.text.parse()?, file.place));
        }
        if let Some(folder) = folder {
            for (name, file) in files::of_folder(folder)? {
                let Some((locale, PHRASES)) = name.split_once('/') else {
                    files.insert(name, file);
                    continue;
                };
                // `pt-br` is laid over `pt` if that is there: parents come first, by the order of names.
                let below = files::chain(locale).into_iter().find(|tag| documents.contains_key(tag));
                let (below, _) = &documents[&below.unwrap_or_else(|| LAST_LOCALE.to_owned())];
                let document = phrases::merged(toml::Table::clone(below), &file.text, &file.place)?;
                documents.insert(locale.to_owned(), (document, file.place));
            }
        }
        let mut locales = BTreeMap::new();
        for (locale, (document, place)) in documents {
            locales.insert(locale, Phrases::new(document, &place)?);
        }
        let templates = Self { environment: environment(&files)?, files, locales };
        if folder.is_some() {
            templates.check_used()?;
            check::check(&templates)?;
        }
        Ok(templates)
    }

    /// The words of a notification.
    #[expect(clippy::too_many_arguments, reason = "each is another thing, and there is one caller")]
    pub fn render(
        &self,
        channel: Channel,
        event: EventType,
        severity: Severity,
        locale: &str,
        zone: &TimeZone,
        id: Uuid,
        facts: &Facts,
    ) -> Result<Rendered, String> {
        if channel == Channel::Webhook {
            return Ok(Rendered::Webhook { body: payload::body(event, severity, id, facts) });
        }
        let view = self.reader(locale, zone).view(event, severity, id, facts)?;
        let file = |part| self.file(locale, event, view::kind(event, facts), part);
        if channel == Channel::Sms {
            let (Fitted::Whole(text) | Fitted::Cut(text)) = self.sms(&file("sms.txt")?, view)?;
            return Ok(Rendered::Sms { text });
        }
        let subject = clean::clean(&self.fill(&file("subject.txt")?, &view)?);
        Ok(Rendered::Email {
            subject: clean::clip(&subject, SUBJECT_UNITS_MAX),
            text: self.fill(&file("body.txt")?, &view)?,
            html: self.fill(&file("body.html")?, &view)?,
        })
    }

    /// Made-up facts, to see what a template makes of them. Of results the change is none.
    pub fn sample(event: EventType, change: Option<Change>) -> Facts {
        sample::facts(event, change)
    }

    /// Which file serves what, in every language that has words of its own.
    pub fn list(&self) -> Vec<Listed> {
        let mut kinds: Vec<_> = check::cases()
            .map(|(event, change)| (event, view::kind(event, &sample::facts(event, change))))
            .collect();
        kinds.dedup();
        let mut listed = Vec::new();
        for locale in self.locales() {
            for (event, kind) in &kinds {
                for part in PARTS {
                    let Ok(name) = self.file(&locale, *event, kind, part) else { continue };
                    let overridden = self.files.get(&name).is_some_and(|file| file.is_override);
                    let file = self.place(&name);
                    listed.push(Listed {
                        event_type: event.name(),
                        kind,
                        part,
                        locale: locale.clone(),
                        file,
                        overridden,
                    });
                }
            }
        }
        listed
    }

    /// Languages (lower case, `pt-br`) that have phrases or templates of their own.
    pub fn locales(&self) -> BTreeSet<String> {
        let of_files = self.files.keys().filter_map(|name| Some(name.split_once('/')?.0.to_owned()));
        self.locales.keys().cloned().chain(of_files).collect()
    }

    fn check_used(&self) -> anyhow::Result<()> {
        let used: BTreeSet<String> = self.list().into_iter().map(|listed| listed.file).collect();
        for (name, file) in &self.files {
            ensure!(
                !file.is_override || name.starts_with("layout.") || used.contains(&file.place),
                "{}: is never used: every language has a nearer one",
                file.place
            );
        }
        Ok(())
    }

    fn reader<'a>(&'a self, locale: &'a str, zone: &'a TimeZone) -> Reader<'a> {
        let tag = files::chain(locale).into_iter().find(|tag| self.locales.contains_key(tag));
        let known = self.locales.get_key_value(tag.as_deref().unwrap_or(LAST_LOCALE));
        let (locale, phrases) = known.expect("English is built in");
        Reader { locale, phrases, zone }
    }

    /// The name of the file that serves.
    fn file(&self, locale: &str, event: EventType, kind: &str, part: &str) -> Result<String, String> {
        files::find(|name| self.files.contains_key(name), locale, event, kind, part)
            .ok_or_else(|| format!("there is no template {kind}.{part}"))
    }

    /// Where a file is, for people.
    fn place(&self, name: &str) -> String {
        self.files.get(name).map_or_else(|| name.to_owned(), |file| file.place.clone())
    }

    fn sms(&self, file: &str, mut view: View<'_>) -> Result<Fitted, String> {
        if let Some(top) = &view.top {
            view.entry.lock = top.lock.clone();
        }
        let lock = view.entry.lock.clone();
        sms::fit(&lock, LOCK_UNITS_MIN, |lock| {
            lock.clone_into(&mut view.entry.lock);
            Ok(self.fill(file, &view)?.trim().to_owned())
        })
    }

    fn fill(&self, file: &str, view: &View<'_>) -> Result<String, String> {
        let template = self.environment.get_template(file).map_err(|error| problem(&error, &self.files))?;
        template.render(Serde(view)).map_err(|error| problem(&error, &self.files))
    }
}

fn environment(files: &Files) -> anyhow::Result<Environment<'static>> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    for (name, file) in files {
        environment
            .add_template_owned(name.clone(), file.text.clone())
            .map_err(|error| anyhow::anyhow!(problem(&error, files)))?;
    }
    Ok(environment)
}

/// File, line, what is wrong, and the line.
fn problem(error: &minijinja::Error, files: &Files) -> String {
    let what = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    let (Some(file), Some(line)) = (error.name().and_then(|name| files.get(name)), error.line()) else {
        return what;
    };
    let text = file.text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    format!("{} line {line}: {what}: {:?}", file.place, clean::clip(text.trim(), 200))
}
