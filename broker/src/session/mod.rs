//! What the broker remembers of one client: pure and synchronous, without sockets or clocks.

pub mod delivery;
pub mod mailbox;
