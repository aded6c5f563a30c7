//! Against a real server.

use latchline_shared::kit::http::readiness::Readiness;
use latchline_shared::kit::kafka::client::Kafka;
use latchline_shared::kit::kafka::development::DevelopmentKafka;
use latchline_shared::kit::kafka::publisher::stream::Stream;
use latchline_shared::kit::postgres::{Postgres, Role};

use super::*;
use crate::chain::tests::full;
use crate::history::tests::{add, database};
use crate::verify::evidence::Evidence;
use crate::verify::{VerifyArguments, cli};

fn maker(postgres: &Postgres, readiness: &Readiness, file: &Path) -> Maker {
    let settings = Settings {
        site: "example.org".to_owned(),
        key_file: None,
        file: Some(file.to_owned()),
        stream: None,
        interval: Duration::from_secs(3_600),
        events_max: 10,
    };
    Maker {
        settings,
        signer: Signer::new("example.org", &[5; 32]).unwrap(),
        pool: postgres.pool("tests", Some(Role("latchline_auditor"))).unwrap(),
        publisher: None,
        condition: readiness.condition("checkpoint", "not yet"),
        metrics: Metrics::default(),
        refused: None,
    }
}

fn notes(file: &Path) -> Vec<String> {
    note::notes(&std::fs::read_to_string(file).unwrap_or_default())
}

#[tokio::test]
async fn a_chain_is_signed_at_first_and_when_it_has_grown_enough() {
    let (postgres, mut client) = database().await;
    let (folder, readiness) = (tempfile::tempdir().unwrap(), Readiness::new());
    let file = folder.path().join("notes");
    let mut maker = maker(&postgres, &readiness, &file);
    maker.step().await.unwrap();
    assert_eq!(notes(&file).len(), 0);
    let mut sizes = Vec::new();
    for count in [3, 9, 1, 0, 10] {
        add(&mut client, 1, (0..count).map(full).collect()).await;
        maker.step().await.unwrap();
        sizes.push(notes(&file).len());
    }
    assert_eq!(sizes, [1, 1, 2, 2, 3]);
    assert!(readiness.reasons().is_empty());
    // The notes of the file agree with the rows, as whoever keeps them sees it.
    let key = vec![maker.signer.verifier().to_string()];
    let arguments = VerifyArguments { checkpoint: vec![file], key, ..Default::default() };
    let mut out = Vec::new();
    cli(&arguments, &postgres, &mut out).await.unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("chain 1: 6 checkpoints agree\n") && text.ends_with("is intact\n"), "{text}");
}

#[tokio::test]
async fn a_history_that_contradicts_its_checkpoint_is_not_signed() {
    let (postgres, mut client) = database().await;
    let (folder, readiness) = (tempfile::tempdir().unwrap(), Readiness::new());
    let file = folder.path().join("notes");
    let mut maker = maker(&postgres, &readiness, &file);
    add(&mut client, 1, (0..5).map(full).collect()).await;
    maker.step().await.unwrap();
    add(&mut client, 1, (0..20).map(full).collect()).await;
    for (change, expected) in [
        ("update auditor.chain_head set seq = 4", "it ends at row 4, a checkpoint is at row 5"),
        ("update auditor.chain_head set seq = 5", "row 5 has another hash"),
        ("delete from auditor.event where seq = 25", "row 25 is missing"),
        ("delete from auditor.event where seq = 7", "row 8: row 7 is missing"),
        (
            "update auditor.event set verdict = 'ok' where seq = 9",
            "row 9: the columns do not match leaf_hash",
        ),
        ("update auditor.chain_head set detail_hash = chain_hash", "row 25 has another hash than the head"),
    ] {
        let saved =
            "create table saved as table auditor.event; create table head as table auditor.chain_head";
        client.batch_execute(saved).await.unwrap();
        client.batch_execute(change).await.unwrap();
        maker.step().await.unwrap();
        let reasons = readiness.reasons();
        assert!(reasons["checkpoint"].ends_with(expected), "{change}: {reasons:?}");
        assert_eq!(notes(&file).len(), 1, "{change}");
        let restore = "truncate auditor.event, auditor.chain_head; insert into auditor.event table saved; \
            insert into auditor.chain_head table head; drop table saved, head";
        client.batch_execute(restore).await.unwrap();
    }
    maker.step().await.unwrap();
    assert_eq!((readiness.reasons().len(), notes(&file).len()), (0, 2));
    assert_eq!(maker.metrics.refused.get(), 6);
}

#[tokio::test]
async fn what_could_not_be_published_is_published_later() {
    let (postgres, mut client) = database().await;
    let (folder, readiness) = (tempfile::tempdir().unwrap(), Readiness::new());
    let missing = folder.path().join("missing");
    let mut maker = maker(&postgres, &readiness, &missing.join("notes"));
    let kafka = DevelopmentKafka::start(&[("audit_checkpoint", 1)]).unwrap();
    let config = Kafka::plaintext(kafka.bootstrap()).client_config("tests").unwrap();
    maker.publisher = Some(Publisher::new("tests", config, Stream::compacted("audit_checkpoint")).unwrap());
    add(&mut client, 1, (0..5).map(full).collect()).await;
    let error = maker.step().await.unwrap_err();
    assert!(format!("{error:#}").contains("append to"), "{error:#}");
    let published = "select published_to from auditor.checkpoint";
    let row = client.query_one(published, &[]).await.unwrap();
    assert_eq!(row.get::<_, Vec<String>>(0), ["stream"]);
    std::fs::create_dir(&missing).unwrap();
    maker.step().await.unwrap();
    let row = client.query_one(published, &[]).await.unwrap();
    assert_eq!(row.get::<_, Vec<String>>(0), ["stream", "file"]);
    let given = notes(&missing.join("notes"));
    let evidence = Evidence { verifiers: vec![maker.signer.verifier()], given };
    assert_eq!(evidence.given_marks().unwrap()[&1].len(), 1);
}
