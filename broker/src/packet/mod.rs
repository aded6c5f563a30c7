//! Packets.
pub mod types;
