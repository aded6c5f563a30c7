#!/usr/bin/env bash
# make demo: Kafka, Postgres, the broker, the three services and a few locks on this machine, told step
# by step; no Docker. KAFKA=apache, KAFKA=dev or KAFKA=host:port chooses the Kafka; DEMO_ONCE=1 ends
# after the story.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh run
bins=(--bin latchline-broker --bin latchline-auditor --bin latchline-monitor --bin latchline-notifier
  --bin demo --bin lockctl --bin locksim)
release=${CARGO_TARGET_DIR:-target}/release
if [[ -x $release/demo ]]; then
  cargo build --quiet --release --workspace "${bins[@]}"
else
  printf 'demo: building in release mode; the first time this takes several minutes\n' >&2
  cargo build --release --workspace "${bins[@]}"
fi
# In the place of this shell, so that Ctrl-C has one to end, who ends what it started.
exec "$release/demo" "$@"
