//! How attempts end in the tables.

use latchline_shared::fault::Fault;
use latchline_shared::kit::testing::eventually;

use super::*;
use crate::channel::Bounce;
use crate::delivery::ends::Ends;
use crate::delivery::queue::settle::settle_all;

#[tokio::test]
async fn an_end_is_written_once_to_the_row_and_to_its_attempt() {
    let lab = Lab::start().await;
    for (outcome, status, expected) in [
        (Outcome::Accepted, Status::Sent, "sent accepted other them true true"),
        (Outcome::Transient, Status::Pending, "pending transient other them false false"),
        (Outcome::Permanent, Status::Dead, "dead permanent other them false true"),
        (Outcome::Ambiguous, Status::Ambiguous, "ambiguous ambiguous other them false true"),
    ] {
        let id = lab.email("info").await;
        let attempt = lab.lease("a", 1, 1).await.leased[0].attempt;
        let answer = Answer { provider_id: Some("them".to_owned()), ..answer(outcome) };
        let settled = lab.settle(attempt, "a", &answer, verdict(status)).await;
        assert_eq!(settled, Settled::Done { status, bounced: false });
        let select =
            "select concat_ws(' ', status, reason, provider, provider_id, (sent_at is not null)::text,
                (settled_at is not null)::text)
            from notification where id = $1 and lease_owner is null and failures = 1
                and (due_at > now()) = (status = 'pending')";
        assert_eq!(lab.text(select, &[&id]).await, expected);
        assert_eq!(lab.attempts(id).await, format!("1 {outcome} 250"));
        let again = lab.settle(attempt, "a", &answer, verdict(Status::Dead)).await;
        assert_eq!(again, Settled::Lost, "{outcome}");
    }
}

#[tokio::test]
async fn an_owner_that_lost_its_lease_writes_nothing_but_that_it_was_sent() {
    let lab = Lab::start().await;
    let id = lab.email("info").await;
    let attempt = lab.lease("a", 1, 1).await.leased[0].attempt;
    let dead = verdict(Status::Dead);
    assert_eq!(lab.settle(attempt, "b", &answer(Outcome::Permanent), dead).await, Settled::Lost);
    // Somebody has taken it for lost.
    lab.execute("update notification set status = 'pending', lease_owner = null where id = $1", &[&id]).await;
    assert_eq!(lab.settle(attempt, "a", &answer(Outcome::Permanent), dead).await, Settled::Lost);
    let sent = (answer(Outcome::Accepted), verdict(Status::Sent));
    let settled = lab.settle(attempt, "a", &sent.0, sent.1).await;
    assert_eq!(settled, Settled::Done { status: Status::Sent, bounced: false });

    let id = lab.email("info").await;
    let attempt = lab.lease("a", 1, 1).await.leased[0].attempt;
    lab.execute("update notification set status = 'pending', lease_owner = null where id = $1", &[&id]).await;
    lab.lease("b", 1, 1).await;
    assert_eq!(lab.settle(attempt, "a", &sent.0, sent.1).await, Settled::Lost);
    assert_eq!(lab.attempts(id).await, "1 started, 2 started");
}

#[tokio::test]
async fn a_report_that_was_faster_stays() {
    let lab = Lab::start().await;
    let id = lab.email("info").await;
    let attempt = lab.lease("a", 1, 1).await.leased[0].attempt;
    lab.execute("update notification set status = 'delivered' where id = $1", &[&id]).await;
    let settled = lab.settle(attempt, "a", &answer(Outcome::Accepted), verdict(Status::Sent)).await;
    assert_eq!(settled, Settled::Done { status: Status::Delivered, bounced: false });
    let select =
        "select (sent_at is not null and settled_at is not null)::text from notification where id = $1";
    assert_eq!(lab.text(select, &[&id]).await, "true");
    assert_eq!(lab.attempts(id).await, "1 accepted 250");
}

#[tokio::test]
async fn a_code_goes_when_the_row_is_final() {
    let lab = Lab::start().await;
    let contact = lab.contact(Channel::Email, "unverified").await;
    let facts = json!({ "client_id": "", "at_ms": 1, "code": "123456" });
    let id = lab.insert(&Row { event_type: "verification", facts, ..row(contact) }).await;
    let code = "select facts->>'code' from notification where id = $1";
    let attempt = lab.lease("a", 1, 1).await.leased[0].attempt;
    let soon = Verdict { wait: Duration::ZERO, ..verdict(Status::Pending) };
    lab.settle(attempt, "a", &answer(Outcome::Transient), soon).await;
    assert_eq!(lab.text(code, &[&id]).await, "123456");
    let attempt = lab.lease("a", 1, 1).await.leased[0].attempt;
    lab.settle(attempt, "a", &answer(Outcome::Accepted), verdict(Status::Sent)).await;
    assert_eq!(lab.text(code, &[&id]).await, "");
}

#[tokio::test]
async fn an_address_that_is_gone_is_not_used_any_more() {
    let lab = Lab::start().await;
    let refused = answer(Outcome::Permanent);
    for (bounces, expected) in [
        (vec![Bounce::Gone], "bounced 1 suppressed"),
        (vec![Bounce::Hard], "active 1 pending"),
        (vec![Bounce::Hard, Bounce::Hard], "bounced 2 suppressed"),
    ] {
        let contact = lab.contact(Channel::Email, "active").await;
        for bounce in &bounces {
            lab.insert(&row(contact)).await;
            let attempt = lab.lease("a", 1, 1).await.leased[0].attempt;
            lab.insert(&Row { due_in_s: 60.0, ..row(contact) }).await;
            let verdict = Verdict { bounce: Some(*bounce), ..verdict(Status::Dead) };
            lab.settle(attempt, "a", &refused, verdict).await;
        }
        let select = "select concat_ws(' ', status, bounces, (select string_agg(distinct status, ' ')
                from notification where contact_id = contact.id and status <> 'dead'))
            from contact where id = $1 and (bounced_at is not null) = (status = 'bounced')";
        assert_eq!(lab.text(select, &[&contact]).await, expected, "{bounces:?}");
    }
}

#[tokio::test]
async fn of_somebody_who_has_gone_no_words_are_kept() {
    let lab = Lab::start().await;
    for (erase, expected) in [(false, "OK"), (true, "")] {
        let id = lab.email("info").await;
        let attempt = lab.lease("a", 1, 1).await.leased[0].attempt;
        if erase {
            lab.execute("update notification set address = '' where id = $1", &[&id]).await;
        }
        lab.settle(attempt, "a", &answer(Outcome::Permanent), verdict(Status::Dead)).await;
        let select = "select excerpt from attempt where notification_id = $1";
        assert_eq!(lab.text(select, &[&id]).await, expected);
        assert_eq!(lab.attempts(id).await, "1 permanent 250");
    }
}

#[tokio::test]
async fn very_much_for_an_address_that_is_gone_is_ended_little_by_little() {
    let lab = Lab::start().await;
    let contact = lab.contact(Channel::Email, "active").await;
    lab.insert(&row(contact)).await;
    let attempt = lab.lease("a", 1, 1).await.leased[0].attempt;
    let insert =
        "insert into notification (id, event_type, severity, priority, client_id, user_id, contact_id,
            channel, address, locale, time_zone, facts, status, due_at, occurred_at, expires_at)
        select gen_random_uuid(), event_type, severity, priority, client_id, user_id, contact_id, channel,
            address, locale, time_zone, facts, 'pending', now(), occurred_at, expires_at
        from notification, generate_series(1, 1005)";
    lab.execute(insert, &[]).await;
    let gone = Verdict { bounce: Some(Bounce::Gone), ..verdict(Status::Dead) };
    lab.settle(attempt, "a", &answer(Outcome::Permanent), gone).await;
    let count = "select string_agg(status || ' ' || count, ', ' order by status) from
        (select status, count(*) from notification group by status) counted";
    assert_eq!(lab.text(count, &[]).await, "dead 1, pending 5, suppressed 1000");
    let taken = lab.lease("a", 10, 10).await;
    assert_eq!((taken.leased.len(), taken.ended), (0, vec![Status::Suppressed; 5]));
}

#[tokio::test]
async fn a_message_that_arrives_forgives_a_bounce() {
    let lab = Lab::start().await;
    let contact = lab.contact(Channel::Email, "active").await;
    let hard = Verdict { bounce: Some(Bounce::Hard), ..verdict(Status::Dead) };
    for (outcome, verdict, expected) in [
        (Outcome::Permanent, hard, "active 1"),
        (Outcome::Accepted, verdict(Status::Sent), "active 0"),
        (Outcome::Permanent, hard, "active 1"),
    ] {
        lab.insert(&row(contact)).await;
        let attempt = lab.lease("a", 1, 1).await.leased[0].attempt;
        lab.settle(attempt, "a", &answer(outcome), verdict).await;
        let select = "select concat_ws(' ', status, bounces) from contact where id = $1";
        assert_eq!(lab.text(select, &[&contact]).await, expected);
    }
}

/// While one statement is held up, the ends that come are written by the next, all but one that no
/// statement can write.
#[tokio::test]
async fn an_end_that_cannot_be_written_keeps_no_other_from_it() {
    let lab = Lab::start().await;
    let contact = lab.contact(Channel::Email, "active").await;
    for _ in 0..5 {
        lab.insert(&row(contact)).await;
    }
    let attempts: Vec<_> = lab.lease("a", 5, 5).await.leased.iter().map(|row| row.attempt).collect();
    let end = |attempt, excerpt| End {
        attempt,
        owner: "a".to_owned(),
        provider: "relay".to_owned(),
        took: None,
        answer: Answer { excerpt, ..answer(Outcome::Accepted) },
        verdict: verdict(Status::Sent),
    };
    let mut owner = lab.database.owner.get().await.unwrap();
    let transaction = owner.transaction().await.unwrap();
    let first = attempts[0].id;
    transaction.query("select from notification where id = $1 for update", &[&first]).await.unwrap();
    let (ends, pool) = (Ends::default(), &lab.database.pool);
    let write = async |number: usize, excerpt: &str| {
        ends.write(pool, &end(attempts[number], excerpt.to_owned())).await
    };
    let rollback = async {
        let waits = "select (count(*) > 0)::text from pg_stat_activity where wait_event_type = 'Lock'
            and datname = current_database()";
        eventually(LEASE, "the first is held up", async || lab.text(waits, &[]).await == "true").await;
        transaction.rollback().await.unwrap();
    };
    let sent = Settled::Done { status: Status::Sent, bounced: false };
    let done = Ok(sent);
    let (a, b, c, d, e, ()) =
        tokio::join!(write(0, ""), write(1, ""), write(2, "\0"), write(3, ""), write(4, ""), rollback);
    assert_eq!((&a, &b, &d, &e), (&done, &done, &done, &done));
    assert!(matches!(c, Err(Fault::Permanent(_) | Fault::Bug(_))), "{c:?}");
    assert_eq!(lab.status(attempts[2].id).await, "sending");

    // Without such a one, one statement is enough.
    let ids: Vec<_> = (0..3).map(|_| row(contact)).collect();
    for row in &ids {
        lab.insert(row).await;
    }
    let attempts: Vec<_> = lab.lease("a", 3, 3).await.leased.iter().map(|row| row.attempt).collect();
    let all: Vec<_> = attempts.iter().map(|attempt| end(*attempt, String::new())).collect();
    let lost = End { owner: "b".to_owned(), verdict: verdict(Status::Dead), ..all[1].clone() };
    let settled = settle_all(pool, &[all[0].clone(), lost, all[2].clone()]).await;
    assert_eq!(settled, Ok(vec![sent, Settled::Lost, sent]));
    assert_eq!(lab.attempts(attempts[0].id).await, "1 accepted 250");
    assert_eq!(lab.status(attempts[1].id).await, "sending");
}
