#!/usr/bin/env bash
# make chaos: the whole system under load while faults strike it at random, for CHAOS_S seconds (1,200
# unless set). Arguments go to the program (--help lists them); --seed repeats the faults of another run.
# Full disks and clock steps are left out, and that is said, where this machine does not permit them; with
# CHAOS_ALL=1 that is an error.
set -euo pipefail
cd "$(dirname "$0")/.."
# What it needs depends on that.
export KAFKA=${KAFKA:-apache}
scripts/setup.sh chaos
bins=(--bin latchline-broker --bin latchline-auditor --bin latchline-monitor --bin latchline-notifier --bin chaos)
cargo build --quiet --release --workspace "${bins[@]}"
# Its mounts end with it even if it is killed.
apart=()
if unshare --mount --propagation private true 2>/dev/null; then
  apart=(unshare --mount --propagation private)
fi
exec "${apart[@]}" "${CARGO_TARGET_DIR:-target}/release/chaos" --seconds "${CHAOS_S:-1200}" "$@"
