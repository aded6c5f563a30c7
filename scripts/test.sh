#!/usr/bin/env bash
# make test: every test of the workspace; the end-to-end tests on Apache Kafka where Java 17 and
# Maven are found, else on the development Kafka. KAFKA=apache, KAFKA=dev or KAFKA=host:port chooses.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh test

# The end-to-end tests start the binaries as they are installed.
cargo build --quiet --workspace --bins
cargo run --quiet --package latchline-e2e --bin kafka -- describe
# Every failure is named in one run.
cargo test --workspace --no-fail-fast "$@"
