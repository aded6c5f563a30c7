//! The steps of the schema `notifier`.

use latchline_shared::kit::postgres::Role;
use latchline_shared::kit::postgres::migrate::Migration;
use latchline_shared::kit::postgres::prepare::Schema;

/// The schema, and all of its steps in order.
pub const SCHEMA: Schema = Schema {
    name: "notifier",
    migrations: &[Migration {
        name: "0001_notifications",
        sql: include_str!("../migrations/0001_notifications.sql"),
    }],
    application: "latchline-notifier",
};

/// What the service acts in.
pub const ROLE: Role = Role("latchline_notifier");

#[cfg(test)]
pub(crate) mod tests {
    use latchline_shared::kit::postgres::testing::Database;

    use super::*;

    /// A fresh database with our schema.
    pub(crate) async fn database() -> Database {
        Database::new(&SCHEMA, ROLE).await.unwrap()
    }

    #[tokio::test]
    async fn the_schema_is_made_once() {
        let Database { postgres, pool, owner } = database().await;
        assert_eq!(SCHEMA.migrate(&postgres).await.unwrap(), 0);
        for pool in [pool, owner] {
            pool.get().await.unwrap().query("select from notification", &[]).await.unwrap();
        }
    }
}
