//! Tampering on a real server, as whoever may do everything there.

use tokio_postgres::{Client, Transaction};

use super::database::verify_in;
use super::*;
use crate::chain::Head;
use crate::chain::tests::full;
use crate::history::tests::{add, database, rows};
use crate::ndjson;
use crate::note::{Checkpoint, Signer};

const CHAIN: i16 = 1;

/// Something that is done to the lines of a file.
type Change<'a> = &'a dyn Fn(&mut Vec<Vec<u8>>);

fn signer() -> Signer {
    Signer::new("example.org", &[5; 32]).unwrap()
}

fn note(chain_id: i16, head: Head, previous: Option<&str>) -> String {
    let checkpoint = Checkpoint {
        site: "example.org".to_owned(),
        chain_id,
        head,
        previous: previous.map(crate::note::fingerprint),
        signed_at: "2026-11-22T10:00:00Z".parse().unwrap(),
    };
    signer().sign(&checkpoint.text())
}

fn evidence(given: Vec<String>) -> Evidence {
    Evidence { verifiers: vec![signer().verifier()], given }
}

/// Two chains of 20 rows each, over three months, and two checkpoints of the first.
async fn history() -> (Postgres, Client) {
    let (postgres, mut client) = database().await;
    for chain in [CHAIN, 2] {
        let mut events: Vec<_> = (0..20).map(full).collect();
        for (number, event) in (0..).zip(&mut events) {
            event.occurred_at_ms += number * 4 * 24 * 3_600_000;
        }
        add(&mut client, chain, events).await;
    }
    let rows = rows(&client, CHAIN).await;
    let mut before = None;
    for seq in [8, 15] {
        let head = Head::at(&rows[seq - 1]);
        let note = note(CHAIN, head, before.as_deref());
        let (chain_hash, detail_hash) = (head.chain_hash.as_slice(), head.detail_hash.as_slice());
        let insert = "insert into auditor.checkpoint \
            (chain_id, size, chain_hash, detail_hash, note, signed_at, published_to) \
            values ($1, $2, $3, $4, $5, '2026-11-22T10:00:00Z', '{}')";
        client.execute(insert, &[&CHAIN, &head.seq, &chain_hash, &detail_hash, &note]).await.unwrap();
        before = Some(note);
    }
    (postgres, client)
}

async fn verify(transaction: &Transaction<'_>, given: Vec<String>) -> Report {
    verify_in(transaction, &evidence(given), &mut Files::default()).await.unwrap()
}

/// The first problem of each chain: chain, row, kind.
fn first(report: &Report) -> Vec<(i16, i64, &'static str)> {
    let problems = report.chains.iter().filter_map(|chain| chain.problems.first());
    problems.map(|problem| (problem.chain_id, problem.seq, problem.kind)).collect()
}

/// What is found after `statements`, which are undone.
async fn after(client: &mut Client, statements: &str, given: Vec<String>) -> Vec<(i16, i64, &'static str)> {
    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute(statements).await.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    first(&verify(&transaction, given).await)
}

#[tokio::test]
async fn history_that_nobody_touched_is_intact() {
    let (postgres, mut client) = history().await;
    let transaction = client.transaction().await.unwrap();
    let report = verify(&transaction, Vec::new()).await;
    assert!(report.is_intact(), "{report:?}");
    let chain = &report.chains[0];
    assert_eq!((chain.chain_id, chain.rows, chain.checkpoints, chain.rows_uncovered), (CHAIN, 20, 2, 5));
    drop(transaction);
    let mut out = Vec::new();
    let arguments = VerifyArguments { key: vec![signer().verifier().to_string()], ..Default::default() };
    assert_eq!(cli(&arguments, &postgres, &mut out).await.unwrap(), Exit::Done);
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("chain 1: intact, 20 rows verified up to row 20\n"), "{text}");
    assert!(text.ends_with("history is intact\n"), "{text}");
}

#[tokio::test]
async fn a_change_of_any_column_is_located() {
    let (_, mut client) = history().await;
    let changes = [
        ("occurred_at", "occurred_at + interval '1 millisecond'"),
        ("occurred_at", "occurred_at + interval '1 microsecond'"),
        ("occurred_at", "'2026-02-15T00:00:00Z'"),
        ("ingested_at", "ingested_at + interval '1 microsecond'"),
        ("xid", "'1'"),
        ("direction", "'uplink'"),
        ("kind", "'attempt'"),
        ("client_id", "overlay(client_id placing '9' from 3)"),
        ("process_id", "process_id || '1'"),
        ("process_id", "null"),
        ("action", "'lock'"),
        ("lock_state", "'locked'"),
        ("lock_state", "null"),
        ("lock_state_raw", "lock_state_raw + 256"),
        ("battery", "83.40001"),
        ("battery", "null"),
        ("publisher", "'Console'"),
        ("publisher", "null"),
        ("receiver", "receiver || ' '"),
        ("username", "''"),
        ("verdict", "'ok'"),
        ("findings", "findings[1:1]"),
        ("findings", "array[findings[2], findings[1]]"),
        ("findings", "array[findings[1] || findings[2]]"),
        ("severity", "2"),
        ("severity", "258"),
        ("reason", "null"),
        ("nonce_str", "'u7u4p0n9'"),
        ("cmd_ts", "cmd_ts - interval '1 second'"),
        ("cmd_ts", "null"),
        ("skew_ms", "-skew_ms"),
        ("sign_bits", "64"),
        ("kid", "'k2'"),
        ("raw", "set_byte(raw, 0, get_byte(raw, 0) # 1)"),
        ("raw", "''"),
        ("raw", "raw || '\\x20'"),
        ("raw_sha256", "set_byte(raw_sha256, 31, get_byte(raw_sha256, 31) # 1)"),
        ("k_topic", "'message_state'"),
        ("k_partition", "-k_partition"),
        ("k_offset", "k_offset + 1"),
        ("mid", "'00ab'"),
        ("node", "null"),
        ("qos", "2"),
        ("leaf_hash", "set_byte(leaf_hash, 0, get_byte(leaf_hash, 0) # 128)"),
        ("chain_hash", "set_byte(chain_hash, 0, get_byte(chain_hash, 0) # 128)"),
        ("detail_hash", "set_byte(detail_hash, 0, get_byte(detail_hash, 0) # 128)"),
    ];
    for column in crate::history::COLUMNS.split(", ").filter(|column| !["chain_id", "seq"].contains(column)) {
        assert!(changes.iter().any(|(changed, _)| *changed == column), "no change of {column}");
    }
    for (column, value) in changes {
        // A checkpoint's row, the last row, and one of the middle.
        for seq in [6, 8, 20] {
            let change = format!(
                "update auditor.event set {column} = {value} where chain_id = {CHAIN} and seq = {seq}"
            );
            let found = after(&mut client, &change, Vec::new()).await;
            assert_eq!(found.len(), 1, "{change}: {found:?}");
            assert_eq!((found[0].0, found[0].1), (CHAIN, seq), "{change}: {found:?}");
        }
    }
}

#[tokio::test]
async fn rows_that_were_removed_swapped_moved_or_inserted_are_located() {
    let (_, mut client) = history().await;
    let columns = crate::history::COLUMNS.replace("chain_id, seq, ", "");
    let contents = columns.split(", ").map(|name| format!("{name} = other.{name}")).collect::<Vec<_>>();
    let swap_contents = format!(
        "create temporary table other as select * from auditor.event where chain_id = 1 and seq in (6, 9);
         update auditor.event set {} from other where event.chain_id = 1
             and (event.seq, other.seq) in ((6, 9), (9, 6))",
        contents.join(", ")
    );
    let insert = |chain: &str, seq: &str| {
        format!(
            "insert into auditor.event (chain_id, seq, {columns}) select {chain}, {seq}, {} \
             from auditor.event where chain_id = 1 and seq = 6",
            columns.replacen("occurred_at", "occurred_at + interval '1 millisecond'", 1)
        )
    };
    for (statements, expected) in [
        ("delete from auditor.event where chain_id = 1 and seq = 6", vec![(1, 6, "missing")]),
        ("delete from auditor.event where chain_id = 1 and seq = 1", vec![(1, 1, "missing")]),
        ("delete from auditor.event where chain_id = 1", vec![(1, 1, "missing")]),
        (
            "delete from auditor.event where chain_id = 1 and seq = 6;
             update auditor.event set seq = seq - 1 where chain_id = 1 and seq > 6",
            vec![(1, 6, "leaf")],
        ),
        (
            "update auditor.event set seq = 15 - seq where chain_id = 1 and seq in (6, 9)",
            vec![(1, 6, "leaf")],
        ),
        (&swap_contents, vec![(1, 6, "leaf")]),
        ("update auditor.event set seq = 21 where chain_id = 1 and seq = 6", vec![(1, 6, "missing")]),
        (
            "update auditor.event set chain_id = 2, occurred_at = occurred_at + interval '1 millisecond' where chain_id = 1 and seq = 6",
            vec![(1, 6, "missing"), (2, 6, "inserted")],
        ),
        (
            "update auditor.event set chain_id = 3 where chain_id = 1 and seq = 6",
            vec![(1, 6, "missing"), (3, 1, "missing")],
        ),
        (&insert("1", "6"), vec![(1, 6, "inserted")]),
        (&insert("1", "0"), vec![(1, 0, "inserted")]),
        (&insert("1", "21"), vec![(1, 21, "leaf")]),
        (&insert("3", "1"), vec![(3, 1, "leaf")]),
    ] {
        let found = after(&mut client, statements, Vec::new()).await;
        assert_eq!(found, expected, "{statements}");
    }
}

#[tokio::test]
async fn a_tail_that_was_cut_is_found() {
    let (_, mut client) = history().await;
    let all = rows(&client, CHAIN).await;
    let head_to = |seq: usize| {
        let hex = |hash: &[u8]| latchline_shared::hex::encode(hash);
        let row = &all[seq - 1];
        format!(
            "delete from auditor.event where chain_id = 1 and seq > {seq};
             update auditor.chain_head set seq = {seq}, chain_hash = '\\x{}', detail_hash = '\\x{}'
                 where chain_id = 1;",
            hex(&row.chain_hash),
            hex(&row.detail_hash)
        )
    };
    let cut = "delete from auditor.event where chain_id = 1 and seq > 12";
    assert_eq!(after(&mut client, cut, Vec::new()).await, [(1, 13, "missing")]);
    // With a head that fits: by the checkpoint at 15.
    assert_eq!(after(&mut client, &head_to(12), Vec::new()).await, [(1, 13, "missing")]);
    // An old backup, checkpoints and all: by a checkpoint that was kept elsewhere.
    let backup = format!("{} delete from auditor.checkpoint where size > 12", head_to(12));
    assert_eq!(after(&mut client, &backup, Vec::new()).await, []);
    let kept = note(CHAIN, Head::at(&all[17]), None);
    assert_eq!(after(&mut client, &backup, vec![kept.clone()]).await, [(1, 13, "missing")]);
    assert_eq!(after(&mut client, "select", vec![kept.clone()]).await, []);
    let nothing = "truncate auditor.event, auditor.chain_head, auditor.checkpoint";
    assert_eq!(after(&mut client, nothing, vec![kept]).await, [(1, 1, "missing")]);
    // After the last checkpoint, only the head tells.
    assert_eq!(after(&mut client, &head_to(17), Vec::new()).await, []);
    let behind = "update auditor.chain_head set seq = 19 where chain_id = 1";
    assert_eq!(after(&mut client, behind, Vec::new()).await, [(1, 19, "head")]);
    let headless = "delete from auditor.chain_head where chain_id = 2";
    assert_eq!(after(&mut client, headless, Vec::new()).await, [(2, 0, "head")]);
}

#[tokio::test]
async fn checkpoints_that_were_changed_or_removed_are_found() {
    let (_, mut client) = history().await;
    for (statements, expected) in [
        (
            "update auditor.checkpoint set note = replace(note, '2026', '2025') where size = 8",
            (1, 8, "checkpoint"),
        ),
        ("update auditor.checkpoint set size = 9 where size = 8", (1, 9, "checkpoint")),
        ("update auditor.checkpoint set signed_at = now() where size = 8", (1, 8, "checkpoint")),
        ("update auditor.checkpoint set chain_id = 2 where size = 15", (2, 15, "checkpoint")),
        ("delete from auditor.checkpoint where size = 8", (1, 15, "checkpoint")),
    ] {
        let found = after(&mut client, statements, Vec::new()).await;
        assert_eq!(found.first(), Some(&expected), "{statements}: {found:?}");
    }
    // A whole history of somebody else's: only the signature tells.
    let transaction = client.transaction().await.unwrap();
    let other = Evidence {
        verifiers: vec![Signer::new("example.org", &[6; 32]).unwrap().verifier()],
        given: Vec::new(),
    };
    let report = verify_in(&transaction, &other, &mut Files::default()).await.unwrap();
    assert_eq!(first(&report), [(1, 8, "checkpoint")]);
}

#[tokio::test]
async fn an_export_is_verified_without_the_database() {
    let (postgres, client) = history().await;
    let mut all = rows(&client, CHAIN).await;
    let kept = note(CHAIN, Head::at(&all[19]), None);
    all.extend(rows(&client, 2).await);
    // As an export by time has them.
    all.sort_by_key(|row| (row.event.occurred_at_ms, row.chain_id));
    let folder = tempfile::tempdir().unwrap();
    let (export, checkpoint) = (folder.path().join("a.ndjson"), folder.path().join("a.note"));
    std::fs::write(&checkpoint, format!("{kept}\n")).unwrap();
    let arguments = VerifyArguments {
        from_export: vec![export.clone()],
        checkpoint: vec![checkpoint],
        key: vec![signer().verifier().to_string()],
        ..Default::default()
    };
    let check = async |lines: &[Vec<u8>], arguments: &VerifyArguments| {
        std::fs::write(&export, lines.concat()).unwrap();
        let mut out = Vec::new();
        let exit = cli(arguments, &postgres, &mut out).await.unwrap();
        (exit, String::from_utf8(out).unwrap())
    };
    let lines: Vec<Vec<u8>> = all
        .iter()
        .map(|row| {
            let mut line = Vec::new();
            ndjson::write(row, &mut line);
            line
        })
        .collect();
    let (exit, text) = check(&lines, &arguments).await;
    assert_eq!(exit, Exit::Done, "{text}");
    assert!(text.contains("chain 1: 1 checkpoints agree"), "{text}");
    let at = |chain_id: i16, seq: i64| {
        all.iter().position(|row| (row.chain_id, row.seq) == (chain_id, seq)).unwrap()
    };
    let changes: [(&str, Change<'_>); 5] = [
        ("chain 2: row 6: missing: row 6 is missing", &|lines| drop(lines.remove(at(2, 6)))),
        ("chain 1: row 20: missing: row 20 is missing: a checkpoint", &|lines| drop(lines.remove(at(1, 20)))),
        ("chain 1: row 3: inserted", &|lines| lines.push(lines[at(1, 3)].clone())),
        ("chain 1: row 3: leaf", &|lines| {
            let text = String::from_utf8(lines[at(1, 3)].clone()).unwrap();
            lines[at(1, 3)] = text.replace("replay", "retransmit").into_bytes();
        }),
        ("a.ndjson line 1: not a row of history", &|lines| lines[0] = b"{}\n".to_vec()),
    ];
    for (expected, change) in changes {
        let mut changed = lines.clone();
        change(&mut changed);
        let (exit, text) = check(&changed, &arguments).await;
        assert_eq!(exit, Exit::Failed, "{text}");
        assert!(text.contains(expected) && text.ends_with("history is NOT INTACT\n"), "{expected}: {text}");
    }
    let partial = VerifyArguments { partial: true, ..arguments };
    let (exit, text) = check(&lines[5..], &partial).await;
    assert_eq!(exit, Exit::Done, "{text}");
    assert!(text.contains("rows are not in the selection"), "{text}");
}
