//! From a row to a provider's answer: leases, attempts, and what follows from how they ended.

pub mod provider;
pub mod settings;

pub mod breaker;
pub mod pace;
pub mod policy;
pub mod queue;

#[cfg(test)]
mod tests;
