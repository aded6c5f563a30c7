#!/usr/bin/env bash
# make bench-notify: the notifier with its Postgres, the development Kafka, a mail server and an SMS
# gateway beside it; docs/benchmarks.md explains the figures. About three minutes. Arguments go to the
# benchmark (--help lists them).
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh run
[[ -x ${CARGO_TARGET_DIR:-target}/release/bench ]] ||
  printf 'bench: building in release mode; the first time this takes a few minutes\n' >&2
cargo build --quiet --release --package latchline-notifier --bin latchline-notifier --package latchline-e2e --bin bench
exec "${CARGO_TARGET_DIR:-target}/release/bench" notify "$@"
