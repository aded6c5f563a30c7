//! What waits, by channel.

use deadpool_postgres::Pool;
use latchline_shared::fault::Fault;
use latchline_shared::kit::postgres::fault;
use serde::Serialize;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, GenericClient};
use utoipa::ToSchema;

use super::number;
use crate::event::Channel;

/// Rows that are counted one by one.
pub const COUNT_MAX: usize = 100_000;

/// What waits to be sent on a channel.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Backlog {
    /// The channel's word.
    pub channel: String,
    /// Messages whose time has come; at most 100,000 are counted.
    pub due: i64,
    /// Messages that wait for their next attempt; at most 100,000 are counted.
    pub later: i64,
    /// Messages under way; at most 100,000 are counted.
    pub sending: i64,
    /// For how long the oldest of those that are due has been due, in seconds.
    pub due_age_s: f64,
}

/// Measures it, in the time that the pool gives a statement.
pub async fn backlog(pool: &Pool) -> Result<Vec<Backlog>, Fault> {
    let client = pool.get().await.map_err(|error| fault::of_pool(&error))?;
    let client: &Client = &client;
    measure(client).await.map_err(|error| fault::of(&error))
}

/// Measures it, in the time that the client has.
pub async fn measure(client: &(impl GenericClient + Sync)) -> Result<Vec<Backlog>, Error> {
    let waits = "from notification where channel = c.name and status = 'pending' and digest is null";
    let select = format!(
        "select c.name,
            (select count(*) from (select {waits} and priority in (0, 1) and due_at <= now() limit $2) counted),
            (select count(*) from (select {waits} and priority in (0, 1) and due_at > now() limit $2) counted),
            (select count(*) from (select from notification
                where channel = c.name and status = 'sending' limit $2) counted),
            coalesce(extract(epoch from now() - least(
                (select due_at {waits} and priority = 1 and due_at <= now() order by due_at limit 1),
                (select due_at {waits} and priority = 0 and due_at <= now() order by due_at limit 1))), 0)::float8
        from unnest($1) with ordinality c (name, place) order by c.place"
    );
    let channels: Vec<&str> = Channel::ALL.iter().map(|channel| channel.name()).collect();
    let values: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&channels, Type::TEXT_ARRAY), (&number(COUNT_MAX), Type::INT8)];
    let mut backlog = Vec::with_capacity(channels.len());
    for row in client.query_typed(&select, &values).await? {
        backlog.push(Backlog {
            channel: row.try_get(0)?,
            due: row.try_get(1)?,
            later: row.try_get(2)?,
            sending: row.try_get(3)?,
            due_age_s: row.try_get(4)?,
        });
    }
    Ok(backlog)
}
