//! A lane: all locks of one partition in memory, and its clock.

pub mod watch;
