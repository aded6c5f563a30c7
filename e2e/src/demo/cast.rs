//! Who plays: four locks and their owner.

/// A lock of the demo.
#[derive(Debug, Clone, Copy)]
pub struct Door {
    /// The lock's id; the first is that of the reference.
    pub id: &'static str,
    /// What its owner calls it.
    pub name: &'static str,
    /// Charge of its battery when the story begins.
    pub battery_percent: f64,
}

/// A command is for it, and comes again.
pub const FRONT_DOOR: Door = Door { id: "10083618796833171", name: "Front door", battery_percent: 83.4 };
/// Somebody forges a command for it.
pub const OFFICE: Door = Door { id: "10083618796833172", name: "Office", battery_percent: 61.0 };
/// Its bolt jams.
pub const GARDEN_GATE: Door = Door { id: "10083618796833173", name: "Garden gate", battery_percent: 74.8 };
/// Its battery runs down.
pub const CELLAR: Door = Door { id: "10083618796833174", name: "Cellar", battery_percent: 24.0 };
/// Those that are simulated from the beginning to the end.
pub const DOORS: [Door; 4] = [FRONT_DOOR, OFFICE, GARDEN_GATE, CELLAR];

/// A bare client that reports as a lock does, so that its acknowledgements can be timed.
pub const GARAGE: Door = Door { id: "10083618796833175", name: "Garage", battery_percent: 50.0 };

/// The owner of all locks.
pub const OWNER: &str = "owner";
/// Digits of the owner's telephone behind the country's number.
pub const OWNER_PHONE: u64 = 9_012_345_678;

/// What people call a lock: its name, or its id if it has none.
pub fn name_of(id: &str) -> &str {
    DOORS.iter().chain([&GARAGE]).find(|door| door.id == id).map_or(id, |door| door.name)
}
