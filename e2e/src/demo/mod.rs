//! The demo: the way of a message, told on a terminal to somebody who has never seen the project.
//!
//! [`story`] is the script, [`cast`] who plays, [`screen`] how it looks and [`brief`] what is said of
//! a record; [`seen`] is what Kafka, the mail server and the SMS gateway got meanwhile, [`figures`] how
//! long that took, [`further`] where to look when it is over. Each step of the story waits for what it
//! promises, so a demo that ends well has proved what it told.

pub mod story;

pub mod cast;
pub mod seen;

pub mod brief;
pub mod figures;
pub mod further;
pub mod screen;
