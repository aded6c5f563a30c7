//! Notifications that are told together.
