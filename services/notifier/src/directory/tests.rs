//! What makes sense, and that writing it twice is writing it once.

use latchline_shared::kit::postgres::testing::Database;
use serde_json::json;

use super::store::Refused;
use super::*;
use crate::migrations::tests::database;

fn fields(name: &str, locale: &str, time_zone: &str) -> UserFields {
    let text = str::to_owned;
    UserFields { name: text(name), locale: text(locale), time_zone: text(time_zone) }
}

fn choices() -> Choices {
    Choices::new(&Templates::load(None).unwrap(), &["127.0.0.0/8".to_owned()]).unwrap()
}

fn user(id: &str) -> User {
    User::new(id, fields("Taro", "ja", "Asia/Tokyo"), &choices(), "", &mut Vec::new()).unwrap()
}

fn contact(user_id: &str, address: &str) -> Contact {
    let fields = ContactFields { channel: Channel::Email, address: address.to_owned() };
    Contact::new(user_id, &fields, &choices(), "", &mut Vec::new()).unwrap()
}

fn preference(json: serde_json::Value) -> PreferenceFields {
    serde_json::from_value(json).unwrap()
}

#[test]
fn users_make_sense() {
    for (id, name, locale, zone, wrong) in [
        ("taro", "山田 太郎", "ja", "Asia/Tokyo", ""),
        ("a.b_c:d-1", "x", "ja-JP", "UTC", ""),
        ("taro@example.com", "x", "ja", "UTC", "at id"),
        ("+819012341234", "x", "ja", "UTC", "at id"),
        ("1", &"é".repeat(100), "en-001", "America/New_York", ""),
        ("", "x", "ja", "UTC", "at id"),
        ("..", "x", "ja", "UTC", "at id"),
        ("a/b", "x", "ja", "UTC", "at id"),
        ("a|b", "x", "ja", "UTC", "at id"),
        (&"a".repeat(129), "x", "ja", "UTC", "at id"),
        ("a", "", "ja", "UTC", "at name"),
        ("a", &"é".repeat(101), "ja", "UTC", "at name"),
        ("a", "x\ny", "ja", "UTC", "at name"),
        ("a", "x", "fr", "UTC", "at locale"),
        ("a", "x", "ja_JP", "UTC", "at locale"),
        ("a", "x", "ja-", "UTC", "at locale"),
        ("a", "x", "jajp", "UTC", "at locale"),
        ("a", "x", "JA", "UTC", "at locale"),
        ("a", "x", "ja", "Asia/Edo", "at time_zone"),
        ("a", "x", "ja", "+09:00", "at time_zone"),
        ("a", "x", "ja", "", "at time_zone"),
        ("a", "x", "ja", "../../etc/passwd", "at time_zone"),
    ] {
        let mut problems = Vec::new();
        let user = User::new(id, fields(name, locale, zone), &choices(), "at ", &mut problems);
        assert_eq!(user.is_some(), wrong.is_empty(), "{id} {name} {locale} {zone}");
        match &problems[..] {
            [] => assert_eq!(wrong, ""),
            [one] => assert!(one.starts_with(&format!("{wrong}: ")), "{one}"),
            more => panic!("{more:?}"),
        }
    }
    let mut problems = Vec::new();
    assert_eq!(User::new("", fields("", "", ""), &choices(), "", &mut problems), None);
    assert_eq!(problems.len(), 4, "{problems:?}");
    let lower = User::new("a", fields("x", "en", "asia/tokyo"), &choices(), "", &mut Vec::new()).unwrap();
    assert_eq!(lower.time_zone, "Asia/Tokyo");
}

#[test]
fn what_is_wrong_with_an_address_does_not_show_it() {
    let fields = ContactFields { channel: Channel::Sms, address: "090-1234-5678".to_owned() };
    let mut problems = Vec::new();
    assert_eq!(Contact::new("taro", &fields, &choices(), "users[0].contacts[1].", &mut problems), None);
    assert!(problems[0].starts_with("users[0].contacts[1].address: is not +"), "{problems:?}");
    assert!(!problems[0].contains("1234"));
}

#[test]
fn a_webhook_is_encrypted_but_in_a_network_of_ones_own() {
    for (address, is_good) in [
        ("https://example.com/hook", true),
        ("HTTPS://example.com/hook", true),
        ("https://10.0.0.1/hook", true),
        ("http://127.0.0.1:8080/hook", true),
        ("http://example.com/hook", false),
        ("http://localhost/hook", false),
        ("http://10.0.0.1/hook", false),
        ("http://1.1.1.1/hook", false),
    ] {
        let fields = ContactFields { channel: Channel::Webhook, address: address.to_owned() };
        let mut problems = Vec::new();
        let is_one = Contact::new("taro", &fields, &choices(), "", &mut problems).is_some();
        assert_eq!((is_one, problems.is_empty()), (is_good, is_good), "{address}: {problems:?}");
    }
}

#[test]
fn a_locale_is_one_that_there_are_words_in() {
    let mut choices = choices();
    choices.locales.extend(["fr".to_owned(), "pt-br".to_owned()]);
    for (locale, is_good) in [
        ("fr", true),
        ("fr-CA", true),
        ("pt-BR", true),
        ("pt", false),
        ("pt-PT", false),
        ("de", false),
        ("FR", false),
    ] {
        assert_eq!(check::unfit_locale(locale, &choices).is_none(), is_good, "{locale}");
    }
}

#[test]
fn a_contact_is_what_it_is_of() {
    let one = contact("taro", "taro@example.com");
    assert_eq!(one.id(), contact("taro", "taro@example.com").id());
    assert_ne!(one.id(), contact("jiro", "taro@example.com").id());
    assert_ne!(one.id(), contact("taro", "jiro@example.com").id());
    assert_eq!(one.id().to_string(), "8eb90417-5dc5-5b9f-ae62-7640939d9125");
}

#[test]
fn users_of_locks_make_sense() {
    let member = |client_id: &str, lock_name: &str, tier| {
        let fields = MemberFields { lock_name: lock_name.to_owned(), tier };
        let mut problems = Vec::new();
        Member::new(client_id, "taro", fields, "", &mut problems);
        problems.join("; ")
    };
    for (client_id, lock_name, tier, wrong) in [
        ("*", "", 0, ""),
        ("10083618796833171", "玄関", 100, ""),
        ("", "", 0, "client_id: "),
        (&"a".repeat(256), "", 0, "client_id: "),
        ("a\0", "", 0, "client_id: "),
        ("a", "\u{7}", 0, "lock_name: "),
        ("a", "", -1, "tier: "),
        ("a", "", 101, "tier: "),
    ] {
        let problems = member(client_id, lock_name, tier);
        assert!(problems.starts_with(wrong) && problems.is_empty() == wrong.is_empty(), "{problems}");
    }
}

#[test]
fn preferences_make_sense() {
    for (json, wrong) in [
        (json!({"channel": "email"}), ""),
        (json!({"channel": "sms", "event_type": "unlock_failed", "client_id": "1", "digest_s": 60}), ""),
        (json!({"channel": "sms", "quiet_from": "22:00", "quiet_to": "07:00", "digest_s": 86400}), ""),
        (json!({"channel": "sms", "event_type": "digest"}), "preferences[0].event_type"),
        (json!({"channel": "sms", "event_type": "x"}), "preferences[0].event_type"),
        (json!({"channel": "sms", "client_id": ""}), "preferences[0].client_id"),
        (json!({"channel": "sms", "digest_s": 59}), "preferences[0].digest_s"),
        (json!({"channel": "sms", "digest_s": 86401}), "preferences[0].digest_s"),
        (json!({"channel": "sms", "quiet_from": "22:00"}), "preferences[0].quiet_from: goes"),
        (json!({"channel": "sms", "quiet_to": "22:00"}), "preferences[0].quiet_from: goes"),
        (
            json!({"channel": "sms", "quiet_from": "22:00", "quiet_to": "22:00"}),
            "preferences[0].quiet_from: must not",
        ),
        (
            json!({"channel": "sms", "quiet_from": "24:00", "quiet_to": "07:00"}),
            "preferences[0].quiet_from: must be",
        ),
        (
            json!({"channel": "sms", "quiet_from": "22:00", "quiet_to": "7:00"}),
            "preferences[0].quiet_to: must be",
        ),
        (
            json!({"channel": "sms", "quiet_from": "22:00", "quiet_to": "+7:00"}),
            "preferences[0].quiet_to: must be",
        ),
    ] {
        let mut problems = Vec::new();
        let list = Preference::list(vec![preference(json.clone())], "", &mut problems);
        assert_eq!(list.is_some(), wrong.is_empty(), "{json}: {problems:?}");
        assert!(problems.join("; ").starts_with(wrong), "{json}: {problems:?}");
    }
    let one = || preference(json!({"channel": "email"}));
    let mut problems = Vec::new();
    assert_eq!(Preference::list(vec![one(), one()], "body: ", &mut problems), None);
    assert_eq!(problems, ["body: preferences[1]: is of the same choice as preferences[0]"]);
    problems.clear();
    assert_eq!(Preference::list(vec![one(); 1_001], "", &mut problems), None);
    assert_eq!(problems, ["preferences: has more than 1000"]);
}

#[tokio::test]
async fn putting_something_twice_is_putting_it_once() {
    let Database { pool, .. } = database().await;
    let mut client = pool.get().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    for is_new in [true, false] {
        assert_eq!(store::put_user(&transaction, &user("taro")).await.unwrap(), is_new);
        let contact = contact("taro", "taro@example.com");
        assert_eq!(store::add_contact(&transaction, &contact, None).await.unwrap(), is_new);
        store::activate(&transaction, contact.id()).await.unwrap();
        let fields = MemberFields { lock_name: "door".to_owned(), tier: 1 };
        let member = Member::new("lock-1", "taro", fields, "", &mut Vec::new()).unwrap();
        assert_eq!(store::put_member(&transaction, &member).await.unwrap(), is_new);
        let list = vec![
            preference(json!({"channel": "email", "quiet_from": "22:00", "quiet_to": "07:00"})),
            preference(json!({"channel": "email", "client_id": "lock-1", "enabled": false})),
        ];
        let list = Preference::list(list, "", &mut Vec::new()).unwrap();
        store::put_preferences(&transaction, "taro", &list).await.unwrap();
    }
    let count = "select (select count(*) from users), (select count(*) from contact where status = 'active'), \
        (select count(*) from lock_member), (select count(*) from preference)";
    let row = transaction.query_one(count, &[]).await.unwrap();
    assert_eq!((0..4).map(|at| row.get(at)).collect::<Vec<i64>>(), [1, 1, 1, 2]);
    let row =
        transaction.query_one("select * from preference where quiet_from is not null", &[]).await.unwrap();
    let (from, min): (Time, String) = (row.get("quiet_from"), row.get("min_severity"));
    assert_eq!((from, min.as_str()), (Time::constant(22, 0, 0, 0), "info"));
    assert!(store::remove_member(&transaction, "lock-1", "taro").await.unwrap());
    assert!(!store::remove_member(&transaction, "lock-1", "taro").await.unwrap());
}

#[tokio::test]
async fn a_user_has_only_so_many_contacts() {
    let Database { pool, .. } = database().await;
    let mut client = pool.get().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let refused = store::add_contact(&transaction, &contact("taro", "a@example.com"), None).await;
    assert!(matches!(refused, Err(Refused::NoUser)), "{refused:?}");
    store::put_user(&transaction, &user("taro")).await.unwrap();
    for n in 0..=CONTACTS_MAX {
        let added =
            store::add_contact(&transaction, &contact("taro", &format!("{n}@example.com")), None).await;
        let is_refused = matches!(added, Err(Refused::TooManyContacts));
        assert_eq!(is_refused, n == CONTACTS_MAX, "{n}: {added:?}");
    }
    let again = store::add_contact(&transaction, &contact("taro", "0@example.com"), None).await;
    assert!(!again.unwrap());
}
