//! For the tests of a service with an API: the real server, asked as anybody would ([`server`],
//! [`events`]), and what holds of every API: who may ask what, and that it describes itself
//! ([`description`]).

pub mod description;
pub mod events;
pub mod server;
