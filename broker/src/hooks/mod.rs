//! The broker's side of the hook contract ([`latchline_shared::hook`]), and its own hooks: access
//! control, and the guard of commands.
//!
//! [`chain`] calls the hooks for the connections, [`link`] keeps a hook's panics, faults and delays
//! from becoming the broker's. [`access`] is the hook that decides who may connect, by
//! [`credentials`], [`fleet`] and [`identity`], and what they may do, by [`rules`] and [`filter`];
//! [`guard`] is the one that decides whether a command reaches its lock.

pub mod chain;
pub mod link;
pub mod metrics;

pub mod access;
pub mod credentials;
pub mod fleet;
pub mod identity;

pub mod filter;
pub mod rules;

pub mod guard;
