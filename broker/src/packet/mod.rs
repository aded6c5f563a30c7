//! The MQTT wire format: bytes to packets and back, for 3.1.1 and 5. Step 2 of a message's way.
//!
//! Pure and synchronous; no other folder knows how a packet looks on the wire. [`decode`] refuses
//! whatever the two specifications forbid, so that the session never sees a packet that cannot be,
//! and names the reason code of MQTT 5 for it. [`encode`] writes what the broker says, and what
//! 3.1.1 cannot say is mapped or left out there and nowhere else.
//!
//! Reading order: [`types`], `wire`, [`decode`], [`encode`]. The tests compare both ways with
//! `rmqtt-codec`, an independent implementation.

pub mod decode;
pub mod encode;
pub mod types;
mod wire;

#[cfg(test)]
mod tests;
