//! The values of [`VERIFIER`], [`NOTE`] and [`PEM`] were made by another implementation (Python's
//! `cryptography`) from the seed 00..1f.

use std::os::unix::fs::PermissionsExt;

use super::key::{KeyArguments, cli_key};
use super::*;

const SEED: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const VERIFIER: &str = "example.org+4a9c00d7+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
const NOTE: &str = "example.org/audit/3\n4711\nAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\ndetail AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\nprevious -\ntime 2026-11-22T10:00:00Z\n\n— example.org SpwA1wLkyBoczSkM9kBavPGFiMvrzi7Pm3j5flxyE7iEJV3DfubpZzpnrluDpMPLkBptRQ/dq2T7Ae8wmpVfATe9Nww=\n";
const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n-----END PRIVATE KEY-----";

fn checkpoint() -> Checkpoint {
    Checkpoint {
        site: "example.org".to_owned(),
        chain_id: 3,
        head: Head { seq: 4711, chain_hash: [1; 32], detail_hash: [2; 32] },
        previous: None,
        signed_at: "2026-11-22T10:00:00Z".parse().unwrap(),
    }
}

#[test]
fn another_implementation_makes_the_same_note_and_key() {
    for key in [SEED, PEM] {
        let signer = Signer::of_text("example.org", key).unwrap();
        assert_eq!(signer.verifier().to_string(), VERIFIER);
        assert_eq!(signer.sign(&checkpoint().text()), NOTE);
    }
    let verifier = Verifier::parse(VERIFIER).unwrap();
    let text = open(NOTE, &[verifier]).unwrap();
    assert_eq!(Checkpoint::parse(text).unwrap(), checkpoint());
}

#[test]
fn a_note_that_was_changed_does_not_verify() {
    let verifiers = [Verifier::parse(VERIFIER).unwrap()];
    let end = NOTE.len() - 1;
    for at in 0..end {
        let mut bytes = NOTE.as_bytes().to_vec();
        bytes[at] ^= 1;
        let Ok(changed) = String::from_utf8(bytes) else { continue };
        assert!(open(&changed, &verifiers).is_err(), "byte {at}: {changed}");
    }
    assert!(open(NOTE, &[]).is_err());
    let other = Signer::new("example.org", &[7; 32]).unwrap();
    assert!(open(NOTE, &[other.verifier()]).is_err());
    let renamed = Signer::new("example.net", &hex::decode(SEED).unwrap()).unwrap();
    assert!(open(NOTE, &[renamed.verifier()]).is_err());
    // One key of several, one signature of several.
    let both = [other.verifier(), verifiers[0].clone()];
    assert!(open(NOTE, &both).is_ok());
    let line = other.sign("x\n");
    let twice = format!("{NOTE}{}\n", line.lines().last().unwrap());
    assert!(open(&twice, &verifiers).is_ok());
}

#[test]
fn a_checkpoint_has_one_spelling() {
    let second = Checkpoint { previous: Some([9; 32]), ..checkpoint() };
    for good in [checkpoint(), second] {
        assert_eq!(Checkpoint::parse(&good.text()).unwrap(), good);
    }
    let text = checkpoint().text();
    for (old, new) in [
        ("/audit/3", "/audit/x"),
        ("/audit/3", "/audit/03"),
        ("4711", "04711"),
        ("4711", "-"),
        ("AQE=", "AQE"),
        ("detail ", "details "),
        ("previous -\n", ""),
        ("10:00:00Z", "10:00:00.0Z"),
        ("10:00:00Z", "10:00:00Z\nmore"),
    ] {
        assert!(text.contains(old));
        assert!(Checkpoint::parse(&text.replacen(old, new, 1)).is_err(), "{new}");
    }
}

#[test]
fn keys_that_are_none_are_refused() {
    for (old, new) in
        [("example.org", "example.net"), ("example.org", ""), ("+", " "), ("+A", "+B"), ("=", "")]
    {
        assert!(VERIFIER.contains(old) || old == "=");
        let text = VERIFIER.replacen(old, new, 1);
        assert!(text == VERIFIER || Verifier::parse(&text).is_err(), "{text}");
    }
    for name in ["", "a b", "a+b", "a\n"] {
        assert!(Signer::new(name, &[0; 32]).is_err(), "{name:?}");
    }
    for key in
        ["", "00", &SEED.to_uppercase(), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
    {
        assert!(Signer::of_text("example.org", key).is_err(), "{key}");
    }
}

#[test]
fn several_notes_are_told_apart() {
    let signer = Signer::of_text("example.org", SEED).unwrap();
    let all: Vec<String> = (1..4)
        .map(|seq| {
            let head = Head { seq, ..checkpoint().head };
            signer.sign(&Checkpoint { head, ..checkpoint() }.text())
        })
        .collect();
    let file: String = all.iter().map(|note| format!("{note}\n")).collect();
    assert_eq!(notes(&file), all);
    assert_eq!(notes(file.trim_end()), all);
    assert_eq!(notes(""), Vec::<String>::new());
    // Cut short at any place and gone on with: what is whole is read.
    for cut in 0..all[0].len() - 1 {
        let Some(begin) = all[0].get(..cut) else { continue };
        let found = notes(&format!("{begin}\n\n{}\n{}", all[1], all[2]));
        let whole = found.iter().filter(|note| open(note, &[signer.verifier()]).is_ok());
        assert_eq!(whole.collect::<Vec<_>>(), [&all[1], &all[2]], "cut at {cut}");
    }
}

#[test]
fn a_key_is_made_once_and_for_its_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let arguments = KeyArguments { name: "example.org".to_owned(), file: file.clone() };
    let mut said = [Vec::new(), Vec::new()];
    for out in &mut said {
        cli_key(&arguments, out).unwrap();
    }
    assert_eq!(said[0], said[1]);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let verifier = Verifier::parse(std::str::from_utf8(&said[0]).unwrap()).unwrap();
    let signer = Signer::of_file("example.org", &file).unwrap();
    assert_eq!(open(&signer.sign("a\n"), &[verifier]).unwrap(), "a\n");
}
