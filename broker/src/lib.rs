//! Placeholder.
pub mod config;
pub mod hooks;
pub mod metrics;
pub mod packet;
pub mod session;
