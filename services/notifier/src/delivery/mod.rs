//! From a row to a provider's answer: leases, attempts, and what follows from how they ended.
