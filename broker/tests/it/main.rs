//! The broker over real sockets, in the order of what a client does. `raw` is a client that says
//! exactly what it is told to; `smoke` and `flood` have an independent one as witness.

mod app;
mod hooks;
mod raw;

mod smoke;

mod connect;
mod publish;
mod retained;
mod subscribe;

mod redelivery;
mod session;
mod takeover;
mod will;

mod budget;
mod events;
mod flood;
mod receipts;

mod expiry;
mod limits;
