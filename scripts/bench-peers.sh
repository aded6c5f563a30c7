#!/usr/bin/env bash
# make bench-peers: our broker beside mosquitto, rumqttd and a bare echo, and its bridge beside a bare
# Kafka producer; docs/benchmarks.md explains the figures. About fifteen minutes. Arguments go to both
# benchmarks (`bench peers --help`), but for --json, which is a file of each: PEERS_JSON, STORE_JSON.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh build
target=${CARGO_TARGET_DIR:-target}
[[ -x $target/release/bench && -x $target/peers/release/rumqttd ]] ||
  printf 'bench: building in release mode; the first time this takes a few minutes\n' >&2
cargo build --quiet --release --package latchline-broker --bin latchline-broker --package latchline-e2e --bin bench
# A package of its own, with a lock file of its own: nothing of ours depends on what it brings.
cargo build --quiet --release --locked --manifest-path e2e/peers/Cargo.toml --target-dir "$target/peers"
"$target/release/bench" peers ${PEERS_JSON:+--json "$PEERS_JSON"} "$@"
"$target/release/bench" store ${STORE_JSON:+--json "$STORE_JSON"} "$@"
