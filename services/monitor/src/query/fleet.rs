//! What the lanes say of all locks together.

use jiff::Timestamp;
use latchline_shared::kit::api::view;
use serde::Serialize;
use tokio_postgres::{Error, GenericClient, Row};
use utoipa::ToSchema;

/// Most lanes that are listed; the sums are of all of them.
const LANES_MAX: usize = 10_000;

/// All locks together.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Fleet)]
pub struct FleetView {
    /// Locks that have ever reported.
    pub locks: i64,
    /// Of these, those that are silent.
    pub offline: i64,
    /// Those that fell silent within the last `fleet_connectivity.window_s` (60 s by default).
    pub lost: i64,
    /// Whether the alarm of the fleet is open.
    pub alarm_open: bool,
    /// Its id (UUID).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarm_id: Option<String>,
    /// What each lane says. A lane reads one partition of the reports.
    pub lanes: Vec<LaneView>,
}

/// A lane.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Lane)]
pub struct LaneView {
    /// Its partition.
    pub partition: i32,
    /// Up to when it has looked at delays.
    #[schema(format = DateTime)]
    pub evaluated_at: String,
    /// Since when it has kept up with the clock; none if it does not, and then no lock of it is
    /// found silent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub live_since: Option<String>,
    /// The newest report of any of its locks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub last_report_at: Option<String>,
    /// When it said so.
    #[schema(format = DateTime)]
    pub updated_at: String,
    /// Its locks.
    pub locks: i64,
    /// Of these, those that are silent.
    pub offline: i64,
    /// Those that fell silent within the last `fleet_connectivity.window_s` (60 s by default).
    pub lost: i64,
}

/// What the lanes say, and whether the alarm of the fleet is open.
pub async fn read(client: &(impl GenericClient + Sync)) -> Result<FleetView, Error> {
    let select = "select partition, evaluated_at, live_since, last_report_at, updated_at, locks, offline, lost \
         from lane order by partition";
    let lanes = client.query_typed(select, &[]).await?;
    let lanes = lanes.iter().map(lane).collect::<Result<Vec<_>, _>>()?;
    let select = "select id from alarm where client_id = '' and type = 'fleet_connectivity' \
         and state <> 'closed'";
    let alarm = client.query_typed_opt(select, &[]).await?;
    let alarm_id = alarm.map(|row| row.try_get::<_, uuid::Uuid>(0)).transpose()?;
    let mut fleet = FleetView {
        alarm_open: alarm_id.is_some(),
        alarm_id: alarm_id.map(|id| id.to_string()),
        ..FleetView::default()
    };
    for lane in &lanes {
        fleet.locks += lane.locks;
        fleet.offline += lane.offline;
        fleet.lost += lane.lost;
    }
    fleet.lanes = lanes.into_iter().take(LANES_MAX).collect();
    Ok(fleet)
}

fn lane(row: &Row) -> Result<LaneView, Error> {
    let time = |index| Ok::<_, Error>(row.try_get::<_, Option<Timestamp>>(index)?.map(view::time));
    Ok(LaneView {
        partition: row.try_get(0)?,
        evaluated_at: view::time(row.try_get(1)?),
        live_since: time(2)?,
        last_report_at: time(3)?,
        updated_at: view::time(row.try_get(4)?),
        locks: row.try_get(5)?,
        offline: row.try_get(6)?,
        lost: row.try_get(7)?,
    })
}
