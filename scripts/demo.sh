#!/usr/bin/env bash
# make demo: Kafka, the broker and a few locks on this machine, told step by step; no Docker.
# KAFKA=apache, KAFKA=dev or KAFKA=host:port chooses the Kafka; DEMO_ONCE=1 ends after the story.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh build
bins=(--bin latchline-broker --bin demo --bin lockctl)
if [[ -x ${CARGO_TARGET_DIR:-target}/release/demo ]]; then
  cargo build --quiet --release --workspace "${bins[@]}"
else
  printf 'demo: building in release mode; the first time this takes a few minutes\n' >&2
  cargo build --release --workspace "${bins[@]}"
fi
exec cargo run --quiet --release --package latchline-e2e --bin demo -- "$@"
