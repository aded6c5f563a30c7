//! Who gets which rows, and when.

use std::collections::HashSet;

use super::*;
use crate::delivery::queue::recover::{self, Lost};
use crate::delivery::queue::settle::put_back;
use crate::event::EventType;

#[tokio::test]
async fn rows_that_are_due_are_leased_critical_ones_first() {
    let lab = Lab::start().await;
    let contact = lab.contact(Channel::Email, "active").await;
    let later = lab.insert(&Row { due_in_s: -1.0, ..row(contact) }).await;
    let earlier = lab.insert(&Row { due_in_s: -2.0, ..row(contact) }).await;
    let critical = lab.insert(&Row { severity: "critical", due_in_s: 0.0, ..row(contact) }).await;
    lab.insert(&Row { due_in_s: 60.0, ..row(contact) }).await;
    let waits = lab.insert(&row(contact)).await;
    lab.execute("update notification set digest = 'x' where id = $1", &[&waits]).await;
    let sms = lab.contact(Channel::Sms, "active").await;
    lab.insert(&Row { channel: Channel::Sms, ..row(sms) }).await;

    let taken = lab.lease("a", 10, 1).await;
    assert_eq!(ids(&taken.leased), [critical, earlier]);
    let first = &taken.leased[0];
    assert_eq!((first.attempt.n, first.is_critical, first.secret.as_slice()), (1, true, &b"key"[..]));
    assert_eq!(first.zone.iana_name(), Some("Asia/Tokyo"));
    let told = first.told.as_ref().unwrap();
    assert_eq!((told.event_type, told.facts.client_id.as_str()), (EventType::Unlocked, "lock-1"));
    assert_eq!(lab.attempts(critical).await, "1 started");
    assert_eq!(ids(&lab.lease("b", 10, 10).await.leased), [later]);
    assert!(lab.lease("b", 10, 10).await.leased.is_empty());
}

#[tokio::test]
async fn there_is_room_for_so_many_and_for_so_many_that_are_not_critical() {
    let lab = Lab::start().await;
    for _ in 0..4 {
        lab.email("critical").await;
        lab.email("info").await;
    }
    for (rows_max, ordinary_max, critical, ordinary) in
        [(1, 4, 1, 0), (2, 0, 2, 0), (2, 4, 1, 1), (0, 4, 0, 0), (9, 1, 0, 1), (9, 9, 0, 2)]
    {
        let leased = lab.lease("a", rows_max, ordinary_max).await.leased;
        let urgent = leased.iter().filter(|row| row.is_critical).count();
        assert_eq!((urgent, leased.len() - urgent), (critical, ordinary), "{rows_max} {ordinary_max}");
    }
}

#[tokio::test]
async fn a_row_has_one_owner_whoever_asks_at_once() {
    let lab = Lab::start().await;
    let contact = lab.contact(Channel::Email, "active").await;
    for _ in 0..120 {
        lab.insert(&row(contact)).await;
    }
    let ask = async |owner: &str| {
        let mut mine = Vec::new();
        loop {
            let leased = lab.lease(owner, 7, 7).await.leased;
            if leased.is_empty() {
                return mine;
            }
            mine.extend(ids(&leased));
        }
    };
    let (a, b, c) = tokio::join!(ask("a"), ask("b"), ask("c"));
    let all: HashSet<_> = a.iter().chain(&b).chain(&c).collect();
    assert_eq!((all.len(), a.len() + b.len() + c.len()), (120, 120));
}

#[tokio::test]
async fn what_is_too_late_or_has_no_address_any_more_is_not_sent() {
    let lab = Lab::start().await;
    let active = lab.contact(Channel::Email, "active").await;
    let code = || json!({ "client_id": "", "at_ms": 1, "code": "123456" });
    let mut rows = Vec::new();
    for (contact, event_type, expires_in_s, expected) in [
        (active, "unlocked", 0.0, "expired expired 0"),
        (active, "verification", 0.0, "expired expired 0"),
        (random_id(), "unlocked", 60.0, "suppressed no_contact 0"),
        (lab.contact(Channel::Email, "bounced").await, "unlocked", 60.0, "suppressed bounced 0"),
        (lab.contact(Channel::Email, "unverified").await, "unlocked", 60.0, "suppressed unverified 0"),
        (lab.contact(Channel::Email, "unverified").await, "verification", 60.0, "sending - 1"),
        (code_sent(&lab, "- interval '1 hour'").await, "verification", 60.0, "sending - 1"),
        (code_sent(&lab, "+ interval '1 hour'").await, "verification", 60.0, "suppressed replaced 0"),
        (active, "unlocked", 60.0, "sending - 1"),
    ] {
        let row = Row { event_type, expires_in_s, facts: code(), ..row(contact) };
        rows.push((lab.insert(&row).await, event_type, expected));
    }
    let taken = lab.lease("a", 10, 10).await;
    assert_eq!((taken.leased.len(), taken.ended.len()), (3, 6));
    for (id, event_type, expected) in rows {
        let select = "select concat_ws(' ', status, coalesce(reason, '-'), attempts) from notification
            where id = $1 and (settled_at is null) = (status = 'sending')";
        assert_eq!(lab.text(select, &[&id]).await, expected, "{event_type}");
        let has_code =
            lab.text("select (facts ? 'code')::text from notification where id = $1", &[&id]).await;
        let is_over = event_type == "verification" && !expected.starts_with("sending");
        assert_eq!(has_code, (!is_over).to_string(), "{event_type} {expected}");
    }
}

/// A contact that was sent its newest code then.
async fn code_sent(lab: &Lab, when: &str) -> Uuid {
    let contact = lab.contact(Channel::Email, "unverified").await;
    let update = format!("update contact set code_sent_at = now() {when} where id = $1");
    lab.execute(&update, &[&contact]).await;
    contact
}

#[tokio::test]
async fn a_row_that_nobody_can_read_is_leased_with_the_reason() {
    let lab = Lab::start().await;
    let contact = lab.contact(Channel::Email, "active").await;
    lab.insert(&Row { event_type: "nonsense", ..row(contact) }).await;
    lab.insert(&Row { severity: "nonsense", ..row(contact) }).await;
    lab.insert(&Row { facts: json!({ "at_ms": "no" }), ..row(contact) }).await;
    let leased = lab.lease("a", 10, 10).await.leased;
    assert_eq!(leased.iter().filter(|row| row.told.is_err()).count(), 3);
}

#[tokio::test]
async fn a_row_that_is_put_back_was_not_tried() {
    let lab = Lab::start().await;
    let id = lab.email("info").await;
    let attempt = lab.lease("a", 1, 1).await.leased[0].attempt;
    put_back(&lab.database.pool, &[(attempt, Duration::ZERO)], "b").await.unwrap();
    assert_eq!(lab.status(id).await, "sending");
    put_back(&lab.database.pool, &[(attempt, Duration::ZERO)], "a").await.unwrap();
    assert_eq!((lab.status(id).await.as_str(), lab.attempts(id).await.as_str()), ("pending", ""));
    assert_eq!(lab.lease("b", 1, 1).await.leased[0].attempt, attempt);
}

#[tokio::test]
async fn a_lease_that_ran_out_is_an_attempt_that_may_have_arrived() {
    let lab = Lab::start().await;
    let (again, once) = (lab.email("critical").await, lab.email("info").await);
    lab.lease("dead", 2, 2).await;
    let verdict = |lost: &Lost, answer: &Answer| {
        assert_eq!(
            (lost.provider.as_str(), answer.outcome, lost.tried.attempts),
            ("relay", Outcome::Ambiguous, 1)
        );
        let status = if lost.is_critical { Status::Pending } else { Status::Ambiguous };
        Verdict { status, failures: 1, ambiguous: 1, wait: Duration::ZERO, bounce: None }
    };
    assert_eq!(recover::leases(&lab.database.pool, verdict).await.unwrap(), []);
    lab.execute("update notification set lease_until = now() - interval '1 second'", &[]).await;
    assert_eq!(recover::leases(&lab.database.pool, verdict).await.unwrap().len(), 2);
    assert_eq!(lab.status(again).await, "pending");
    assert_eq!(lab.status(once).await, "ambiguous");
    assert_eq!(lab.attempts(again).await, "1 ambiguous lost");
    // Nobody knows how long it took.
    let took = "select coalesce(string_agg(ms::text, ' '), 'unknown') from attempt";
    assert_eq!(lab.text(took, &[]).await, "unknown");
    assert_eq!(lab.lease("b", 9, 9).await.leased[0].attempt, Attempt { id: again, n: 2 });
}

#[tokio::test]
async fn what_nobody_takes_expires_all_the_same() {
    let lab = Lab::start().await;
    let contact = lab.contact(Channel::Sms, "active").await;
    let sms = Row { channel: Channel::Sms, due_in_s: 60.0, ..row(contact) };
    let late = lab.insert(&Row { expires_in_s: -1.0, ..sms.clone() }).await;
    let young = lab.insert(&sms).await;
    assert_eq!(recover::expired(&lab.database.pool).await.unwrap(), [(Channel::Sms, 1)]);
    assert_eq!((lab.status(late).await.as_str(), lab.status(young).await.as_str()), ("expired", "pending"));
}
