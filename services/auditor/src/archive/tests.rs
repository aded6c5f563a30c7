//! Against a real server.

use latchline_shared::kit::postgres::Postgres;

use super::*;
use crate::chain::tests::full;
use crate::history::tests::{add, database};
use crate::verify::{self, VerifyArguments};

/// Rows of three months, the last of them this one; the first two mixed along the chain.
async fn history() -> (Postgres, Client) {
    let (postgres, mut client) = database().await;
    let day_ms = 24 * 3_600_000;
    let mut events: Vec<Event> = (0..30).map(full).collect();
    for (number, event) in (0..).zip(&mut events) {
        event.occurred_at_ms = 1_672_531_200_000 + (number + (number % 3) * 4) * 2 * day_ms;
    }
    add(&mut client, 1, events).await;
    add(&mut client, 1, vec![Event { occurred_at_ms: Timestamp::now().as_millisecond(), ..full(1) }]).await;
    (postgres, client)
}

fn arguments(folder: &Path) -> RetentionArguments {
    RetentionArguments { older_than_months: 13, folder: folder.to_owned(), dry_run: false, drop: false }
}

async fn run(arguments: &RetentionArguments, postgres: &Postgres) -> String {
    let mut out = Vec::new();
    assert_eq!(cli(arguments, postgres, &mut out).await.unwrap(), Exit::Done);
    String::from_utf8(out).unwrap()
}

async fn verified(postgres: &Postgres, archive: &[PathBuf]) -> (Exit, String) {
    let mut out = Vec::new();
    let arguments = VerifyArguments { archive: archive.to_vec(), ..Default::default() };
    let exit = verify::cli(&arguments, postgres, &mut out).await.unwrap();
    (exit, String::from_utf8(out).unwrap())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn old_months_are_archived_and_history_stays_provable() {
    let (postgres, mut client) = history().await;
    let folder = tempfile::tempdir().unwrap();
    let dry = RetentionArguments { dry_run: true, ..arguments(folder.path()) };
    assert!(run(&dry, &postgres).await.starts_with("event_2023_01 would be archived\n"));
    assert!(files(folder.path()).is_empty());
    let text = run(&arguments(folder.path()), &postgres).await;
    assert!(text.contains("event_2023_01: ") && text.contains("event_2023_02: "), "{text}");
    assert_eq!(run(&arguments(folder.path()), &postgres).await, "", "a repeat has nothing to do");
    let (exit, text) = verified(&postgres, &[]).await;
    assert_eq!(exit, Exit::Done, "{text}");
    assert!(text.contains("archived in event_2023_01.ndjson, not verified"), "{text}");
    assert!(text.contains("chain 1: intact, 1 rows verified up to row 31"), "{text}");
    assert!(text.contains("chain 32767: intact"), "{text}");
    let archives = files(folder.path());
    let (exit, text) = verified(&postgres, &archives).await;
    assert_eq!(exit, Exit::Done, "{text}");
    assert!(text.contains("chain 1: intact, 31 rows verified up to row 31"), "{text}");
    // A row that comes late for its month, and the month once more.
    add(&mut client, 1, vec![Event { occurred_at_ms: 1_672_531_200_000, ..full(7) }]).await;
    let text = run(&RetentionArguments { drop: true, ..arguments(folder.path()) }, &postgres).await;
    assert!(
        text.contains("event_2023_01.2.ndjson") && text.contains("archived_event_2023_01: dropped"),
        "{text}"
    );
    let archives = files(folder.path());
    let (exit, text) = verified(&postgres, &archives).await;
    assert_eq!(exit, Exit::Done, "{text}");
    assert!(text.contains("32 rows verified up to row 32"), "{text}");
    // A file that was changed.
    let changed = fs::read_to_string(&archives[0]).unwrap().replacen("console", "consola", 1);
    fs::write(&archives[0], changed).unwrap();
    let (exit, text) = verified(&postgres, &archives).await;
    assert_eq!(exit, Exit::Failed, "{text}");
    assert!(text.contains("is not the file that was archived") && text.contains(": detail: "), "{text}");
}

#[tokio::test]
async fn a_crash_at_any_point_leaves_history_provable() {
    let (postgres, mut client) = history().await;
    let folder = tempfile::tempdir().unwrap();
    for stage in 0..3 {
        // Ended half-way through the file, after the file, and after the comparison.
        fs::write(folder.path().join("event_2023_01.ndjson.partial"), "{").unwrap();
        if stage > 0 {
            let archive = write_file(&client, "event_2023_01", folder.path()).await.unwrap();
            if stage > 1 {
                compare(&client, "event_2023_01", &archive).await.unwrap();
            }
        }
        let (exit, text) = verified(&postgres, &[]).await;
        assert_eq!(exit, Exit::Done, "{text}");
        assert!(text.contains("31 rows verified"), "{text}");
    }
    // A row that came after the file was written stops the rest, and nothing was done.
    let archive = write_file(&client, "event_2023_01", folder.path()).await.unwrap();
    add(&mut client, 1, vec![Event { occurred_at_ms: 1_672_531_200_000, ..full(7) }]).await;
    assert!(compare(&client, "event_2023_01", &archive).await.is_err());
    let error = detach(&mut client, "event_2023_01", &archive).await.unwrap_err();
    assert_eq!(error.to_string(), "event_2023_01 has grown meanwhile, repeat");
    assert_eq!(verified(&postgres, &[]).await.0, Exit::Done);
    run(&arguments(folder.path()), &postgres).await;
    let (exit, text) = verified(&postgres, &files(folder.path())).await;
    assert_eq!(exit, Exit::Done, "{text}");
    assert!(text.contains("32 rows verified up to row 32"), "{text}");
}

#[tokio::test]
async fn a_history_that_is_not_intact_is_not_archived() {
    let (postgres, client) = history().await;
    let folder = tempfile::tempdir().unwrap();
    client.batch_execute("update auditor.event set verdict = 'ok' where seq = 5").await.unwrap();
    let error = cli(&arguments(folder.path()), &postgres, &mut Vec::new()).await.unwrap_err();
    assert!(format!("{error:#}").starts_with("row 5 of chain 1 is not intact, verify first"), "{error:#}");
    let (_, text) = verified(&postgres, &[]).await;
    assert!(text.contains("chain 1: row 5: leaf"), "{text}");
}
