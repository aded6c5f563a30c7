//! Users, their contacts, locks and preferences, as they are in Postgres.
