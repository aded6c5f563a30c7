//! The load generator: drives any MQTT broker with many connections, and says what that took.
//!
//! A message goes this way: [`schedule`] says when it is due; a thread of [`pace`] puts it into its
//! [`connection`] at that time, whatever became of those before it (open loop); [`stamp`] says in
//! its payload which it is; the [`outbox`] sends it or lets it wait for the window; [`wire`] gives
//! the socket what it takes, through TLS if asked for; [`take`] reads what comes back, [`inbox`]
//! knows what has come already, and [`tally`] counts. Before that, [`hello`] introduces a
//! connection and [`crowd`] opens many of them.
//!
//! [`modes`] are what can be done with it, each a few steps of a [`stage`], which has a [`look`] at
//! the processes from outside and adds up the [`report`]. How late the load itself is, [`pace`] says
//! of what it sends and [`reading`] of what it receives. [`options`] is the command line, [`run`] what
//! it comes down to.
//!
//! Every delay counts from when something was due. Everything that is sent is accounted for at the
//! end: acknowledged, received, or a fault by cause.

pub mod modes;
pub mod options;

pub mod look;
pub mod report;
pub mod stage;

pub mod pace;
pub mod reading;
pub mod schedule;

pub mod connection;
pub mod crowd;
pub mod hello;
mod take;

pub mod inbox;
pub mod outbox;
pub mod stamp;
pub mod wire;

pub mod run;
pub mod tally;
