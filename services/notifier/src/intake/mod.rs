//! Records in, notifications out: what happened, who is told, and the rows of it, in the transaction that stores the offset.
