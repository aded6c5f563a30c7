//! Secrets of the containers: given, or random, kept in files of one folder and handed to each
//! container in a folder of its own with only what it needs.
//!
//! ```text
//! all/        every secret, one file each     only `secrets` itself
//! broker/     credentials, master_key, api_token
//! auditor/    tokens, master_key, checkpoint_key, postgres_password
//! …
//! ```
//!
//! Invariants: a secret is made once and stays, unless another one is given; files can be read by
//! their owner only, and are replaced as a whole; nothing here prints a secret.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use latchline_shared::keys::{MasterKey, SecretHash};

use crate::random;
use crate::stack::secrets::Secrets;

/// What a secret has to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// 64 lower-case hexadecimal digits.
    Key,
    /// At least [`TEXT_BYTES_MIN`] printable bytes without blanks: only a fast hash of it is kept.
    Text,
}

/// A secret: name of its file, and the variable in which one can be given.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    variable: &'static str,
    form: Form,
}

const TEXT_BYTES_MIN: usize = 16;
const MASTER_KEY: &str = "master_key";
const OPERATOR: &str = "password";
const ADMINISTRATOR: &str = "administrator_password";
const API_TOKEN: &str = "api_token";
const CHECKPOINT_KEY: &str = "checkpoint_key";
const POSTGRES: &str = "postgres_password";
const SMS_TOKEN: &str = "sms_token";
const GRAFANA: &str = "grafana_password";

const KINDS: [Kind; 8] = [
    Kind { name: MASTER_KEY, variable: "LATCHLINE_MASTER_KEY", form: Form::Key },
    Kind { name: OPERATOR, variable: "LATCHLINE_OPERATOR_PASSWORD", form: Form::Text },
    Kind { name: ADMINISTRATOR, variable: "LATCHLINE_ADMINISTRATOR_PASSWORD", form: Form::Text },
    Kind { name: API_TOKEN, variable: "LATCHLINE_API_TOKEN", form: Form::Text },
    Kind { name: CHECKPOINT_KEY, variable: "LATCHLINE_CHECKPOINT_KEY", form: Form::Key },
    Kind { name: POSTGRES, variable: "LATCHLINE_POSTGRES_PASSWORD", form: Form::Text },
    Kind { name: SMS_TOKEN, variable: "LATCHLINE_SMS_TOKEN", form: Form::Text },
    Kind { name: GRAFANA, variable: "LATCHLINE_GRAFANA_PASSWORD", form: Form::Text },
];

/// The folder with every secret.
const ALL: &str = "all";
/// Which container gets which secrets as they are.
const COPIES: [(&str, &[&str]); 7] = [
    ("broker", &[MASTER_KEY, API_TOKEN]),
    ("auditor", &[MASTER_KEY, CHECKPOINT_KEY, POSTGRES]),
    ("monitor", &[POSTGRES]),
    ("notifier", &[POSTGRES, SMS_TOKEN]),
    ("postgres", &[POSTGRES]),
    ("demo", &[MASTER_KEY, OPERATOR, ADMINISTRATOR]),
    ("grafana", &[GRAFANA]),
];
/// Which container knows the token of the API by its hash, with all scopes that it has.
const SCOPES: [(&str, &str); 3] =
    [("auditor", "read,export,admin"), ("monitor", "read,operate,admin"), ("notifier", "read,operate,admin")];

/// Makes what is missing under `root`, takes what is given, hands it out; returns what it did, a line
/// for each secret. Nothing is written before everything that was given is known to be good.
pub fn write(root: &Path, given: impl Fn(&str) -> Option<String>) -> anyhow::Result<Vec<String>> {
    let mut said = Vec::new();
    let mut values = BTreeMap::new();
    for kind in &KINDS {
        let kept = read_if_there(&root.join(ALL).join(kind.name))?;
        let given = given(kind.variable).filter(|value| !value.is_empty());
        let (value, how) = match (given, kept) {
            (Some(given), Some(kept)) if given == kept => (kept, "as it was given"),
            (Some(_), Some(_)) if kind.name == POSTGRES => bail!(
                "{} is not the one that the database was made with; change it there first (alter role), \
                 or give none",
                kind.variable
            ),
            (Some(given), _) => (given, "taken from the environment"),
            (None, Some(kept)) => (kept, "kept"),
            (None, None) => (random::secret()?, "made at random"),
        };
        check(kind, &value)?;
        said.push(format!("{:<24}{how}", kind.name));
        values.insert(kind.name, value);
    }
    let files = files(root, &values)?;
    for (path, text) in &files {
        prepare(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    for (path, _) in &files {
        fs::rename(new(path), path).with_context(|| format!("replace {}", path.display()))?;
    }
    Ok(said)
}

/// Every file, and what is in it.
fn files(root: &Path, values: &BTreeMap<&str, String>) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let all = KINDS.iter().map(|kind| (ALL, kind.name));
    let copies = COPIES.iter().flat_map(|(folder, names)| names.iter().map(|name| (*folder, *name)));
    let mut files: Vec<_> = all
        .chain(copies)
        .map(|(folder, name)| (root.join(folder).join(name), values[name].clone()))
        .collect();
    let hash = SecretHash::of(values[API_TOKEN].as_bytes());
    for (folder, scopes) in SCOPES {
        files.push((root.join(folder).join("tokens"), format!("token compose {hash} {scopes}\n")));
    }
    files.push((root.join("broker").join("credentials"), of(values)?.credentials()));
    Ok(files)
}

/// What tools need of all secrets under `root`.
pub fn read(root: &Path) -> anyhow::Result<Secrets> {
    let value = |kind: &Kind| {
        let path = root.join(ALL).join(kind.name);
        let value = read_if_there(&path)?.with_context(|| format!("there is no {}", path.display()))?;
        anyhow::Ok((kind.name, value))
    };
    of(&KINDS.iter().map(value).collect::<Result<_, _>>()?)
}

fn of(values: &BTreeMap<&str, String>) -> anyhow::Result<Secrets> {
    Ok(Secrets {
        master: MasterKey::from_hex(&values[MASTER_KEY])?,
        master_hex: values[MASTER_KEY].clone(),
        operator: values[OPERATOR].clone(),
        administrator: values[ADMINISTRATOR].clone(),
        token: values[API_TOKEN].clone(),
    })
}

/// The variables that the tools of the demo read, from their folder under `root`.
pub fn of_demo(root: &Path) -> anyhow::Result<[(&'static str, String); 3]> {
    let value = |name: &str| {
        let path = root.join("demo").join(name);
        read_if_there(&path)?.with_context(|| format!("there is no {}", path.display()))
    };
    Ok([
        ("LATCHLINE_MASTER_KEY", value(MASTER_KEY)?),
        ("LATCHLINE_PASSWORD", value(OPERATOR)?),
        ("LATCHLINE_ADMINISTRATOR_PASSWORD", value(ADMINISTRATOR)?),
    ])
}

fn check(kind: &Kind, value: &str) -> anyhow::Result<()> {
    let variable = kind.variable;
    match kind.form {
        Form::Key => drop(MasterKey::from_hex(value).with_context(|| variable.to_owned())?),
        Form::Text => {
            ensure!(value.len() >= TEXT_BYTES_MIN, "{variable}: must have {TEXT_BYTES_MIN} bytes or more");
            ensure!(
                value.bytes().all(|byte| byte.is_ascii_graphic()),
                "{variable}: letters, digits and signs only"
            );
        }
    }
    Ok(())
}

fn read_if_there(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// Where a file is until it takes its place.
fn new(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.new", path.display()))
}

/// Writes a file that is to take the place of another, whole and only for its owner.
fn prepare(path: &Path, text: &str) -> io::Result<()> {
    let new = new(path);
    // What a run left that was cut short.
    drop(fs::remove_file(&new));
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o400).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folders() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (folder, _) in COPIES.into_iter().chain([(ALL, &[][..])]) {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        root
    }

    /// What there is; all of it for its owner only.
    fn files(root: &Path) -> BTreeMap<PathBuf, String> {
        let mut files = BTreeMap::new();
        for folder in fs::read_dir(root).unwrap() {
            for file in fs::read_dir(folder.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o400, "{path:?}");
                files.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read_to_string(&path).unwrap());
            }
        }
        files
    }

    #[test]
    fn a_first_start_makes_all_and_a_second_changes_nothing() {
        let root = folders();
        let said = write(root.path(), |_| None).unwrap();
        assert!(said.iter().all(|line| line.ends_with("made at random")), "{said:?}");
        let first = files(root.path());
        let said = write(root.path(), |_| Some(String::new())).unwrap();
        assert!(said.iter().all(|line| line.ends_with("kept")), "{said:?}");
        assert_eq!(files(root.path()), first);
        let all: std::collections::BTreeSet<_> =
            first.iter().filter(|(path, _)| path.starts_with(ALL)).map(|(_, text)| text).collect();
        assert_eq!(all.len(), KINDS.len(), "no two secrets are the same");
        for line in said {
            assert!(all.iter().all(|secret| !line.contains(secret.as_str())), "{line}");
        }
    }

    #[test]
    fn what_is_given_wins_and_reaches_everybody_who_needs_it() {
        let root = folders();
        write(root.path(), |_| None).unwrap();
        let (key, password) = ("5a".repeat(32), "a-password-of-ours");
        write(root.path(), |name| match name {
            "LATCHLINE_MASTER_KEY" => Some(key.clone()),
            "LATCHLINE_OPERATOR_PASSWORD" | "LATCHLINE_API_TOKEN" => Some(password.to_owned()),
            _ => None,
        })
        .unwrap();
        let files = files(root.path());
        for folder in [ALL, "broker", "auditor", "demo"] {
            assert_eq!(files[&Path::new(folder).join(MASTER_KEY)], key);
        }
        let hash = SecretHash::of(password.as_bytes());
        assert!(files[Path::new("broker/credentials")].contains(&format!("user operator {hash} operator\n")));
        assert_eq!(files[Path::new("auditor/tokens")], format!("token compose {hash} read,export,admin\n"));
        let secrets = read(root.path()).unwrap();
        assert_eq!((secrets.master_hex, secrets.operator.as_str()), (key, password));
        assert_eq!(of_demo(root.path()).unwrap()[1], ("LATCHLINE_PASSWORD", password.to_owned()));
    }

    #[test]
    fn what_cannot_be_a_secret_is_refused_by_name_and_not_quoted() {
        for (variable, value) in [
            ("LATCHLINE_MASTER_KEY", "5A".repeat(32)),
            ("LATCHLINE_CHECKPOINT_KEY", "5a".to_owned()),
            ("LATCHLINE_API_TOKEN", "short".to_owned()),
            ("LATCHLINE_OPERATOR_PASSWORD", "sixteen bytes or more".to_owned()),
        ] {
            let root = folders();
            let given = |name: &str| (name == variable).then(|| value.clone());
            let error = format!("{:#}", write(root.path(), given).unwrap_err());
            assert!(error.starts_with(variable) && !error.contains(&value), "{error}");
        }
    }

    #[test]
    fn one_bad_secret_keeps_all_as_they_were() {
        let root = folders();
        write(root.path(), |_| None).unwrap();
        let before = files(root.path());
        let given = |name: &str| match name {
            "LATCHLINE_MASTER_KEY" => Some("5a".repeat(32)),
            "LATCHLINE_API_TOKEN" => Some("short".to_owned()),
            _ => None,
        };
        assert!(write(root.path(), given).is_err());
        assert_eq!(files(root.path()), before);
    }

    #[test]
    fn what_others_could_read_they_cannot_read_after_the_next_start() {
        let root = folders();
        write(root.path(), |_| None).unwrap();
        for path in files(root.path()).keys() {
            fs::set_permissions(root.path().join(path), fs::Permissions::from_mode(0o644)).unwrap();
        }
        write(root.path(), |_| None).unwrap();
        files(root.path());
    }

    #[test]
    fn the_password_of_a_database_that_is_there_does_not_change() {
        let root = folders();
        write(root.path(), |_| None).unwrap();
        let before = files(root.path());
        let given =
            |name: &str| (name == "LATCHLINE_POSTGRES_PASSWORD").then(|| "another-password".to_owned());
        let error = write(root.path(), given).unwrap_err().to_string();
        assert!(error.starts_with("LATCHLINE_POSTGRES_PASSWORD is not the one"), "{error}");
        assert_eq!(files(root.path()), before);
    }

    #[test]
    fn nothing_is_there_before_the_first_start() {
        let root = folders();
        assert!(format!("{:#}", read(root.path()).err().unwrap()).contains("all/master_key"));
    }
}
