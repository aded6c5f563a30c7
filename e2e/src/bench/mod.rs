//! What `make bench` measures, and how: the broker is a process of its own, its CPU time and its
//! memory are read from `/proc`, and the load comes from other processes.
//!
//! [`idle`]: memory of an idle connection. [`cost`]: CPU time of a message, with few and with many
//! locks connected. [`storm`]: what others feel while everybody comes or goes at once. [`latency`]:
//! how long a PUBACK takes. [`report`] puts it together; [`plan`] says how much of each.
//! [`scale`] measures the same of few locks and of a million, and [`plot`] draws it.
//! [`peers`] measures other brokers and a bare echo beside ours, [`store`] a bare producer beside the
//! bridge. [`history`] measures the auditor, [`watch`] the monitor and [`notify`] the notifier, each by
//! itself, and [`pipeline`] all of it together.
//!
//! The tools below them: [`group`] measures brokers by turns, [`sample`] one of them once and
//! says how late the load was, [`shares`] says who had the processors meanwhile, [`stored`] counts
//! Kafka's end. [`target`] starts brokers, [`fleet`] connects locks from a process of its own,
//! [`publishers`] loads, [`probe`] feels the broker's pulse, [`meter`] reads `/proc`, [`metric`] what
//! programs count.
//!
//! Non-guarantee: machines differ and neighbours disturb. What is compared is measured by turns in
//! one run, what counts is CPU time rather than time on the wall, and medians rather than means.

pub mod report;

pub mod plan;

pub mod peers;
pub mod scale;
pub mod store;

pub mod history;
pub mod notify;
pub mod pipeline;
pub mod watch;

pub mod cost;
pub mod idle;
pub mod latency;
pub mod storm;

pub mod group;
pub mod sample;
pub mod shares;
pub mod stored;

pub mod fleet;
pub mod probe;
pub mod publishers;
pub mod target;

pub mod figures;
pub mod lock;
pub mod meter;
pub mod metric;
pub mod plot;
pub mod progress;
