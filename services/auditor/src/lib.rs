//! The auditor: no forged or replayed command goes unseen, and history can be proved and queried.

pub mod event;
