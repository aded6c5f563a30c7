//! Whether the system keeps what it promises, under load and while parts of it die.
//!
//! [`traffic`] makes load and writes what it is promised into a [`ledger`]; [`gather`] fetches what
//! Kafka and the services have of it, as [`evidence`]; [`account`] compares the two.

pub mod account;
pub mod evidence;
pub mod excuse;
pub mod fault;
pub mod gather;
pub mod ledger;
pub mod recovery;
pub mod traffic;
pub mod warning;
