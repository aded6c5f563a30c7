//! The broker over real sockets.

mod app;
mod smoke;
