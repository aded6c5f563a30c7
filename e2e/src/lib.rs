//! The stack as a library, for the end-to-end tests, the demo and the command-line tools.
//!
//! [`kafka`]: the Kafka to test with, and a reader of what is stored. [`mqtt`]: an ordinary client
//! of somebody else's making; [`client`]: one of ours that may misbehave. [`lock`]: simulated
//! locks; [`operator`]: who commands them; [`feed`]: their
//! records without them. [`sink`]: what shows mails and SMS. [`stack`]: all of
//! it, started and stopped; [`site`]: all of it, wherever it runs; [`checker`]: whether it keeps what it
//! promises while parts of it die, and [`chaos`]: which at random; [`demo`]: all of it, told;
//! [`load`]: any broker, loaded; [`mod@bench`]: all of it, measured. [`containers`]: what those need
//! before a start. [`process`]: everything that runs outside this process; [`signal`]: what it is told
//! from outside.

pub mod kafka;
pub mod process;
pub mod signal;

pub mod client;
pub mod mqtt;

pub mod feed;
pub mod lock;
pub mod operator;

pub mod attack;
pub mod chaos;
pub mod checker;

pub mod sink;
pub mod site;
pub mod stack;

pub mod bench;
pub mod load;

pub mod containers;
pub mod demo;
pub mod journey;

pub mod arguments;
pub mod random;
pub mod show;
