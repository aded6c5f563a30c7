//! A seed is put in as a whole, again and again, or not at all.

use latchline_shared::kit::postgres::testing::Database;

use super::*;
use crate::migrations::tests::database;
use crate::template::Templates;

fn choices() -> Choices {
    Choices::new(&Templates::load(None).unwrap(), &["127.0.0.0/8".to_owned()]).unwrap()
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

const GOOD: &str = r#"
[[users]]
id = "taro"
name = "山田 太郎"
locale = "ja"
time_zone = "Asia/Tokyo"
contacts = [
    { channel = "email", address = "taro@example.com", verified = true },
    { channel = "webhook", address = "https://example.com/hook", verified = true, secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" },
]
locks = [{ client_id = "10083618796833171", lock_name = "玄関" }]
preferences = [{ channel = "email", event_type = "locked" }]

[[users]]
id = "ops"
name = "Operators"
locale = "en"
time_zone = "UTC"
contacts = [
    { channel = "sms", address = "+819012341234" },
    { channel = "webhook", address = "http://127.0.0.1:1/hook" },
]
locks = [{ client_id = "*", tier = 1 }]
"#;

#[test]
fn all_that_is_wrong_is_told_with_its_place() {
    let wrong = r#"
        [[users]]
        id = "a b"
        name = "x"
        locale = "fr"
        time_zone = "Asia/Edo"
        contacts = [
            { channel = "email", address = "hidden" },
            { channel = "fax", address = "hidden" },
            { channel = "email", address = "a@example.com", secret = "whsec_hidden" },
            { channel = "webhook", address = "https://example.com", secret = "hidden" },
            { channel = "webhook", address = "https://example.com", verfied = true },
        ]
        locks = [{ client_id = "" }, { tier = 1 }]
        preferences = [{ channel = "email", digest_s = 1 }, { channel = "email", enabled = 1 }]
        [[users]]
        id = "b"
        [[users]]
        id = "c"
        name = "x"
        locale = "ja"
        time_zone = "UTC"
        contacts = [{ channel = "email", address = "a@example.com" }, { channel = "email", address = "a@example.com" }]
        [[users]]
        id = "c"
        name = "x"
        locale = "ja"
        time_zone = "UTC"
    "#;
    let problems = file::parse(wrong, &choices()).unwrap_err();
    let starts = [
        "users[0].id: must be 1 to 128",
        "users[0].locale: must be one of",
        "users[0].time_zone: is no IANA",
        "users[0].contacts[0].address: is not user@host",
        "users[0].contacts[1]: unknown variant `fax`",
        "users[0].contacts[2].secret: is of webhooks only",
        "users[0].contacts[3].secret: must be whsec_",
        "users[0].contacts[4]: unknown field `verfied`",
        "users[0].locks[0].client_id: must be",
        "users[0].locks[1]: missing field `client_id`",
        "users[0].preferences[1]: invalid type",
        "users[0].preferences[0].digest_s: must be 0",
        "users[1]: missing field `name`",
        "users[2].contacts[1]: is the same as users[2].contacts[0]",
    ];
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem} is not {start}");
        assert!(!problem.contains("hidden"), "{problem}");
    }
    assert!(
        problems.last().unwrap().ends_with("is the same as users[0]") && problems.len() == 15,
        "{problems:#?}"
    );
    for (text, start) in [
        ("users = 1", "line 1: invalid type"),
        ("\n\n[[user]]\n", "line 3: unknown field `user`"),
        ("\nx = \"hidden", "line 2: "),
    ] {
        let problems = file::parse(text, &choices()).unwrap_err();
        assert!(problems[0].starts_with(start) && !problems[0].contains("hidden"), "{problems:?}");
    }
}

#[test]
fn a_file_is_checked_with_the_settings() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seed.toml");
    let problems = || {
        let mut problems = Vec::new();
        Settings { file: Some(path.clone()) }.problems(&choices(), &mut problems);
        problems
    };
    assert!(problems()[0].starts_with("seed.file: cannot read "));
    std::fs::write(&path, "[[users]]").unwrap();
    assert!(problems()[0].contains("seed.toml: users[0]: missing field `id`"), "{:?}", problems());
    std::fs::write(&path, GOOD).unwrap();
    assert_eq!(problems(), Vec::<String>::new());
}

#[tokio::test]
async fn a_seed_is_put_in_again_and_again() {
    let Database { pool, owner, .. } = database().await;
    let client = owner.get().await.unwrap();
    let rows = async || {
        let select = "select concat_ws(' ', contact.user_id, channel, status, octet_length(secret), tier, lock_name), \
             secret from contact join lock_member using (user_id) order by contact.user_id, channel";
        let rows = client.query(select, &[]).await.unwrap();
        let secrets: Vec<Option<Vec<u8>>> = rows.iter().map(|row| row.get(1)).collect();
        (rows.iter().map(|row| row.get(0)).collect::<Vec<String>>(), secrets)
    };
    let seed = file::parse(GOOD, &choices()).unwrap();
    seed.apply(&pool).await.unwrap();
    let (first, secrets) = rows().await;
    assert_eq!(
        first,
        [
            "ops sms unverified 1 ",
            "ops webhook unverified 32 1 ",
            "taro email active 0 玄関",
            "taro webhook active 24 0 玄関",
        ]
    );
    assert_eq!(secrets[3].as_deref(), Some(Secret::from_text(SECRET).unwrap().bytes()));
    client
        .batch_execute("update contact set secret = '\\x00' where user_id = 'taro' and channel = 'webhook'")
        .await
        .unwrap();
    seed.apply(&pool).await.unwrap();
    assert_eq!(rows().await, (first, secrets), "what the file says holds; what it leaves open stays");
    let names = "select string_agg(name, ' ' order by id) from users";
    let changed = file::parse(&GOOD.replace("Operators", "Operations"), &choices()).unwrap();
    changed.apply(&pool).await.unwrap();
    let row = client.query_one(names, &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "Operations 山田 太郎");
    client.batch_execute("update contact set status = 'bounced' where channel = 'email'").await.unwrap();
    changed.apply(&pool).await.unwrap();
    assert_eq!(rows().await.0[2], "taro email bounced 0 玄関");
}

#[tokio::test]
async fn a_seed_of_which_a_part_is_refused_is_not_put_in() {
    let Database { pool, owner, .. } = database().await;
    let client = owner.get().await.unwrap();
    client
        .batch_execute(
            "insert into users (id, name, locale, time_zone) values ('ops', 'x', 'en', 'UTC');
             insert into contact (id, user_id, channel, address, status) \
                 select gen_random_uuid(), 'ops', 'email', n || '@example.com', 'active' from generate_series(1, 20) n",
        )
        .await
        .unwrap();
    let refused = file::parse(GOOD, &choices()).unwrap().apply(&pool).await.unwrap_err();
    assert!(format!("{refused:#}").starts_with("user ops: the user has 20 contacts"), "{refused:#}");
    let row = client.query_one("select string_agg(name, ' ') from users", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "x");
}
