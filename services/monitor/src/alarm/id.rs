//! Ids of alarms and of their events: from what they are of, so that the same records make the same
//! ids again. They are part of the contract with whoever reads the alarm stream.

use latchline_shared::alarm::AlarmType;
use uuid::{Uuid, uuid};

use crate::signal::Place;

/// All of them are in this namespace.
const NAMESPACE: Uuid = uuid!("6f6b5c86-3c3d-5c0e-9a52-0d1a6f0f4c11");

/// Of an alarm.
pub fn alarm(client_id: &str, alarm_type: AlarmType, raised_at_ms: i64, place: &Place) -> Uuid {
    let Place { stream, partition, offset } = place;
    name(&format!("{client_id}|{alarm_type}|{raised_at_ms}|{stream}/{partition}/{offset}"))
}

/// Of an event.
pub fn event(alarm_id: Uuid, no: i32) -> Uuid {
    name(&format!("{alarm_id}/{no}"))
}

/// Of a silence.
pub(super) fn silence(created_by: &str, created_at_ms: i64, matchers: &str) -> Uuid {
    name(&format!("silence|{created_by}|{created_at_ms}|{matchers}"))
}

fn name(text: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stay_what_they_are() {
        let place = Place { stream: "message_state".into(), partition: 3, offset: 77 };
        let id = alarm("10083618796833171", AlarmType::LockFault, 1_574_744_434_000, &place);
        assert_eq!(id.to_string(), "830f383c-1f2b-548e-bcdf-4964a31da4d2");
        assert_eq!(event(id, 1).to_string(), "1151b2e5-a77d-5a4c-a82d-25ce339979a3");
        assert_ne!(event(id, 1), event(id, 11));
    }
}
