#!/usr/bin/env bash
# make bench-peers: our broker beside mosquitto, rumqttd and a bare echo, and its bridge beside a bare
# Kafka producer; docs/benchmarks.md explains the figures. About twenty minutes. Arguments go to both
# benchmarks (`bench peers --help`), but for --json, which is a file of each: PEERS_JSON, STORE_JSON.
# The second is measured whatever comes of the first; it fails if either does.
set -euo pipefail
cd "$(dirname "$0")/.."
for argument; do
  if [[ $argument == --json* ]]; then
    printf 'bench: two benchmarks, two files: PEERS_JSON=FILE STORE_JSON=FILE %s\n' "$0" >&2
    exit 64
  fi
done
scripts/setup.sh build
target=${CARGO_TARGET_DIR:-target}
[[ -x $target/release/bench && -x $target/peers/release/rumqttd ]] ||
  printf 'bench: building in release mode; the first time this takes a few minutes\n' >&2
cargo build --quiet --release --package latchline-broker --bin latchline-broker --package latchline-e2e --bin bench
# A package of its own, with a lock file of its own: nothing of ours depends on what it brings, and
# where it cannot be built, the table says what was not measured.
cargo build --quiet --release --locked --manifest-path e2e/peers/Cargo.toml --target-dir "$target/peers" ||
  printf 'bench: rumqttd and the echo are not built\n' >&2
outcome=0
"$target/release/bench" peers ${PEERS_JSON:+--json "$PEERS_JSON"} "$@" || outcome=$?
"$target/release/bench" store ${STORE_JSON:+--json "$STORE_JSON"} "$@" || outcome=$?
exit "$outcome"
