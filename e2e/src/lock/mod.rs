//! Simulated locks. What a lock decides ([`decide`]) and what it is ([`state`]) is pure; what it
//! has acted on is remembered ([`nonces`]); MQTT is a thin shell around them ([`run`]).

pub mod decide;
pub mod nonces;
pub mod state;

pub mod run;
