#!/usr/bin/env bash
# make demo: Kafka, the broker and a few locks on this machine, told step by step; no Docker.
# KAFKA=apache, KAFKA=dev or KAFKA=host:port chooses the Kafka; DEMO_ONCE=1 ends after the story.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh build
[[ -x ${CARGO_TARGET_DIR:-target}/release/demo ]] ||
  printf 'demo: building in release mode; the first time this takes a few minutes\n' >&2
cargo build --quiet --release --workspace --bins
exec cargo run --quiet --release --package latchline-e2e --bin demo -- "$@"
