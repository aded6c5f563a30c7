#!/usr/bin/env bash
# make chaos: the whole system under load while faults strike it at random, for CHAOS_S seconds (1,200
# unless set). Arguments go to the program (--help lists them); --seed repeats the faults of another run.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh run
bins=(--bin latchline-broker --bin latchline-auditor --bin latchline-monitor --bin latchline-notifier --bin chaos)
cargo build --quiet --release --workspace "${bins[@]}"
export KAFKA=${KAFKA:-apache}
exec "${CARGO_TARGET_DIR:-target}/release/chaos" --seconds "${CHAOS_S:-1200}" "$@"
