//! Placeholder.
pub mod packet;
pub mod session;
