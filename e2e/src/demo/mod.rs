//! The demo: the way of a message, told on a terminal to somebody who has never seen the project.
//!
//! [`story`] is the script, [`screen`] how it looks, [`follower`] what Kafka says meanwhile. Each
//! step of the story waits for the records that it promises, so a demo that ends well has proved
//! what it told.

pub mod follower;
pub mod screen;
pub mod story;
