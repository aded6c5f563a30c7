#!/usr/bin/env bash
# make bench: memory, CPU time, delays and storms, as a table and as JSON; docs/benchmarks.md
# explains them. About seven minutes. Arguments go to the benchmark (--help lists them).
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh build
[[ -x ${CARGO_TARGET_DIR:-target}/release/bench ]] ||
  printf 'bench: building in release mode; the first time this takes a few minutes\n' >&2
cargo build --quiet --release --package latchline-broker --bin latchline-broker --package latchline-e2e --bin bench
exec "${CARGO_TARGET_DIR:-target}/release/bench" "$@"
