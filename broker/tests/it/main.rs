//! The broker over real sockets. `raw` is a client that says exactly what it is told to and checks
//! every byte that it hears; in `smoke` and `flood` an independent client is the witness.

#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod app;
mod hooks;
mod raw;

mod smoke;

// What a client does.
mod connect;
mod publish;
mod subscribe;

mod expiry;
mod limits;
mod retained;

mod redelivery;
mod session;
mod takeover;
mod will;

// What the hooks make of it.
mod budget;
mod events;
mod guard;
mod receipts;
mod rejected;

// Too much, too slow, wrong.
mod abuse;
mod abuse_time;
mod chaos;
mod flood;

// Other doors.
mod admin;
mod tls;
mod websocket;

mod stop;
