//! The broker's side of the hook contract ([`latchline_shared::hook`]), and its own hook: access
//! control.
//!
//! [`chain`] calls the hooks for the connections, [`link`] keeps a hook's panics, faults and delays
//! from becoming the broker's, [`access`] decides who may connect and what they may do.

pub mod chain;
pub mod link;
pub mod metrics;
