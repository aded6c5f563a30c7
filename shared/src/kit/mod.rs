//! Process scaffolding: what every binary of Latchline needs around its own work.
//!
//! `main.rs` calls [`run::run`]; that reads the command line and the [`config`], starts
//! [`telemetry`] and the runtime, and owns the [`shutdown`]. [`http`] serves the admin port.
//! Nothing here knows the domain.

pub mod run;

pub mod config;
pub mod telemetry;

pub mod clock;
pub mod reload;
pub mod retry;
pub mod shutdown;

#[cfg(feature = "api")]
pub mod api;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "postgres")]
pub mod postgres;

#[cfg(feature = "consumer")]
pub mod outbox;

pub mod testing;
