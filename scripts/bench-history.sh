#!/usr/bin/env bash
# make bench-history: what the auditor takes in beside its Postgres, and how fast it answers at ten
# million rows; docs/benchmarks.md explains the figures. About ten minutes and 10 GB of disk in the
# temporary folder. Arguments go to the benchmark (--help lists them).
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh run
[[ -x ${CARGO_TARGET_DIR:-target}/release/bench ]] ||
  printf 'bench: building in release mode; the first time this takes a few minutes\n' >&2
cargo build --quiet --release --package latchline-auditor --bin latchline-auditor --package latchline-e2e --bin bench
exec "${CARGO_TARGET_DIR:-target}/release/bench" history "$@"
