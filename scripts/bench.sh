#!/usr/bin/env bash
# make bench: how many messages a second the broker takes and Kafka stores, and how long a lock
# waits for its acknowledgement; everything on this machine. Arguments go to the load generator.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh build
cargo build --release --workspace --bin latchline-broker --bin load
exec cargo run --release --quiet --package latchline-e2e --bin load -- "$@"
