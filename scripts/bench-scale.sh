#!/usr/bin/env bash
# make bench-scale: the broker with 100 to 19,500 locks on sockets and with 100,000 and 1,000,000
# sessions in its own process, as a table and a plot; docs/benchmarks.md explains the figures. About
# ten minutes and 8 GB of memory. Arguments go to the benchmark (--help lists them).
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh build
[[ -x ${CARGO_TARGET_DIR:-target}/release/bench ]] ||
  printf 'bench: building in release mode; the first time this takes a few minutes\n' >&2
cargo build --quiet --release --package latchline-broker --bin latchline-broker --package latchline-e2e --bin bench --bin latchline-crowd
# The picture of the documentation is of a whole run.
(($#)) || set -- --svg docs/figures/scale.svg
exec "${CARGO_TARGET_DIR:-target}/release/bench" scale "$@"
