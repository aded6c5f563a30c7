//! What the containers need before the programs start: secrets ([`secrets`]) and streams ([`streams`]).
//!
//! Used by the one-shot services of `docker-compose.yml`, so that a first start needs no step before it
//! and no password is written in a file of the repository.

pub mod secrets;
pub mod streams;
