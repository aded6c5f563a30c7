#!/usr/bin/env bash
# make bench-pipeline: the reports of a million locks from MQTT through Kafka into all three services, as
# a table and a plot; docs/benchmarks.md explains the figures. About fifteen minutes, 10 GB of memory and
# 15 GB of disk in the temporary folder. Arguments go to the benchmark (--help lists them): --rate finds
# the rate that holds, --svg FILE draws the plot. KAFKA=apache where Java 17 and Maven are found; the development Kafka keeps too
# little for a service that is behind.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh run
[[ -x ${CARGO_TARGET_DIR:-target}/release/bench ]] ||
  printf 'bench: building in release mode; the first time this takes a few minutes\n' >&2
cargo build --quiet --release --package latchline-auditor --bin latchline-auditor --package latchline-monitor --bin latchline-monitor \
  --package latchline-notifier --bin latchline-notifier --package latchline-e2e --bin bench --bin latchline-crowd
exec "${CARGO_TARGET_DIR:-target}/release/bench" pipeline "$@"
