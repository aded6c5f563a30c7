#!/usr/bin/env bash
# make bench-watch: the monitor under 20,000 reports a second of a million locks, with its Postgres
# and the development Kafka beside it; docs/benchmarks.md explains the figures. About five minutes
# and 5 GB of disk in the temporary folder. Arguments go to the benchmark (--help lists them).
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh run
[[ -x ${CARGO_TARGET_DIR:-target}/release/bench ]] ||
  printf 'bench: building in release mode; the first time this takes a few minutes\n' >&2
cargo build --quiet --release --package latchline-monitor --bin latchline-monitor --package latchline-e2e --bin bench
exec "${CARGO_TARGET_DIR:-target}/release/bench" watch "$@"
