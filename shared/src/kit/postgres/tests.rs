//! Against a real server.

use tokio_postgres::{Client, NoTls};

use super::migrate::{Migration, migrate};
use super::*;
use crate::fault::Fault;

async fn connect(postgres: &Postgres) -> Client {
    let (client, connection) = postgres.client_config("tests").unwrap().connect(NoTls).await.unwrap();
    // Ends with the client.
    tokio::spawn(connection);
    client
}

const FIRST: Migration = Migration { name: "0001_first", sql: "create table lab.a (n int primary key)" };
const SECOND: Migration = Migration { name: "0002_second", sql: "alter table lab.a add m int" };

#[tokio::test]
async fn migrations_are_applied_once_by_whoever_comes_first() {
    let postgres = testing::database().await.unwrap();
    let (mut one, mut two) = (connect(&postgres).await, connect(&postgres).await);
    let migrations = [FIRST, SECOND];
    let (a, b) = tokio::join!(migrate(&mut one, "lab", &migrations), migrate(&mut two, "lab", &migrations));
    assert_eq!(a.unwrap() + b.unwrap(), 2);
    one.execute("insert into lab.a values (1, 2)", &[]).await.unwrap();
    assert_eq!(migrate(&mut one, "lab", &migrations).await.unwrap(), 0);
    migrate::is_current(&one, "lab", &migrations).await.unwrap();
    let third = Migration { name: "0003_third", sql: "select 1" };
    let error = migrate::is_current(&one, "lab", &[FIRST, SECOND, third]).await.unwrap_err().to_string();
    assert!(error.starts_with("schema lab has 2 of 3 migrations"), "{error}");
}

#[tokio::test]
async fn a_migration_that_changed_or_is_unknown_is_refused() {
    let postgres = testing::database().await.unwrap();
    let mut client = connect(&postgres).await;
    migrate(&mut client, "lab", &[FIRST, SECOND]).await.unwrap();
    let edited = Migration { sql: "create table lab.b ()", ..FIRST };
    let error = migrate(&mut client, "lab", &[edited, SECOND]).await.unwrap_err().to_string();
    assert!(error.starts_with("migration 0001_first of schema lab is not"), "{error}");
    let error = migrate(&mut client, "lab", &[FIRST]).await.unwrap_err().to_string();
    assert!(error.contains("0002_second") && error.ends_with("too old"), "{error}");
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing() {
    let postgres = testing::database().await.unwrap();
    let mut client = connect(&postgres).await;
    let broken = Migration { name: "0002_broken", sql: "create table lab.b (); select 1 / 0" };
    assert!(migrate(&mut client, "lab", &[FIRST, broken]).await.is_err());
    assert!(client.query("select from lab.b", &[]).await.is_err());
    assert_eq!(migrate(&mut client, "lab", &[FIRST, SECOND]).await.unwrap(), 1);
}

#[tokio::test]
async fn errors_are_classified() {
    let postgres = testing::database().await.unwrap();
    let client = connect(&postgres).await;
    client.batch_execute("create table a (n int primary key); insert into a values (1)").await.unwrap();
    for (statement, expected) in [
        ("insert into a values (1)", "permanent"),
        ("select 1 / 0", "permanent"),
        ("select from nowhere", "bug"),
        ("selekt", "bug"),
        ("set statement_timeout = 1; select pg_sleep(10)", "transient"),
        // In a transaction: the first is the cause, the second only follows from it.
        ("begin; select 1 / 0", "permanent"),
        ("select 1", "transient"),
    ] {
        let fault = fault::of(&client.batch_execute(statement).await.unwrap_err());
        let class = fault.to_string();
        assert!(class.starts_with(expected), "{statement}: {class}");
    }
    client.batch_execute("rollback").await.unwrap();
    let error = client.query("select $1::int", &[&"text"]).await.unwrap_err();
    assert!(matches!(fault::of(&error), Fault::Bug(_)), "{error}");
}

#[tokio::test]
async fn of_what_was_sent_together_the_cause_is_heard() {
    let postgres = testing::database().await.unwrap();
    let client = connect(&postgres).await;
    let run = async |sql: &str| client.query_typed(sql, &[]).await.map_err(|error| fault::of(&error));
    let transient = |fault: &Fault| matches!(fault, Fault::Transient { .. });
    for (sql, expected) in [("select 1 / 0", "permanent: "), ("select from nowhere", "bug: ")] {
        client.batch_execute("begin").await.unwrap();
        let (cause, behind) = tokio::join!(run(sql), run("select 1"));
        let (cause, behind) = (cause.map(drop), behind.map(drop));
        assert!(transient(behind.as_ref().unwrap_err()), "{behind:?}");
        // In whichever order they are given, and beside what went well.
        for fault in [
            fault::both(cause.clone(), behind.clone()).unwrap_err(),
            fault::both(behind.clone(), cause).unwrap_err(),
        ] {
            assert!(fault.to_string().starts_with(expected), "{sql}: {fault}");
        }
        assert!(transient(&fault::both(Ok(()), behind.clone()).unwrap_err()));
        assert!(transient(&fault::both(behind.clone(), behind).unwrap_err()));
        client.batch_execute("rollback").await.unwrap();
    }
    assert_eq!(fault::both(Ok(1), Ok(2)).unwrap(), (1, 2));
}

#[tokio::test]
async fn a_server_that_went_away_is_transient_and_comes_back() {
    let mut server = development::DevelopmentPostgres::start().unwrap();
    let postgres = server.settings("postgres");
    let pool = postgres.pool("tests", None).unwrap();
    let client = pool.get().await.unwrap();
    client.batch_execute("create table a (n int)").await.unwrap();
    server.stop();
    let error = client.batch_execute("insert into a values (1)").await.unwrap_err();
    assert!(matches!(fault::of(&error), Fault::Transient { .. }), "{error}");
    drop(client);
    let Err(error) = pool.get().await else { panic!("there is no server") };
    assert!(matches!(fault::of_pool(&error), Fault::Transient { .. }), "{error}");
    server.resume().unwrap();
    let client = pool.get().await.unwrap();
    assert_eq!(client.execute("insert into a values (1)", &[]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_pool_acts_in_its_role() {
    let postgres = testing::database().await.unwrap();
    let owner = connect(&postgres).await;
    let sql = "create table a (n int);
        do $$ begin create role latchline_lab; exception when duplicate_object then null; end $$;
        grant insert on a to latchline_lab";
    owner.batch_execute(sql).await.unwrap();
    let pool = postgres.pool("tests", Some(Role("latchline_lab"))).unwrap();
    let client = pool.get().await.unwrap();
    assert_eq!(client.execute("insert into a values (1)", &[]).await.unwrap(), 1);
    let error = client.execute("delete from a", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42501", "{error}");
}

#[tokio::test]
async fn the_same_statements_work_on_any_schema() {
    let postgres = testing::database().await.unwrap();
    let mut owner = connect(&postgres).await;
    owner.batch_execute("create table public.a (n int)").await.unwrap();
    let make = Migration { name: "0001_make", sql: "create table a (n int primary key)" };
    let fill = Migration { name: "0002_fill", sql: "insert into a values (0)" };
    for (schema, number) in [("lab", 1), ("shadow", 2)] {
        assert_eq!(migrate(&mut owner, schema, &[make, fill]).await.unwrap(), 2);
        let pool = postgres.pool_in("tests", None, schema).unwrap();
        let client = pool.get().await.unwrap();
        client.execute("insert into a values ($1)", &[&number]).await.unwrap();
    }
    let rows = owner.query("select n from lab.a union all select n from shadow.a order by n", &[]).await;
    let numbers: Vec<i32> = rows.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(numbers, [0, 0, 1, 2]);
    // The connection that migrated looks where it did before.
    assert_eq!(owner.query("select n from a", &[]).await.unwrap().len(), 0);
}

#[test]
fn problems_are_named_and_passwords_are_not_quoted() {
    let problems = |postgres: &Postgres| {
        let mut problems = Vec::new();
        postgres.problems(&mut problems);
        problems
    };
    let good = development::settings("postgres://latchline@127.0.0.1/latchline", None);
    assert!(problems(&good).is_empty());
    for (url, expected) in [
        ("postgres://a:swordfish@127.0.0.1/b", "must not hold a password"),
        ("postgres://a@127.0.0.1:swordfish/b", "is not postgres://"),
        ("postgres://a@127.0.0.1", "names no database"),
    ] {
        let found = problems(&development::settings(url, None));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(expected) && !found[0].contains("swordfish"), "{found:?}");
    }
    let tls = Postgres { tls: Tls::Require, connections_max: 0, ..good };
    let found = problems(&tls);
    assert!(found[0].starts_with("postgres.ca_file: must be set"), "{found:?}");
    assert!(found[1].starts_with("postgres.connections_max"), "{found:?}");
}
