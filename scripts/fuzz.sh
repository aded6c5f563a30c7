#!/usr/bin/env bash
# make fuzz: each fuzz target, or those in FUZZ_TARGETS, for FUZZ_S seconds (60 unless set), from the
# committed seeds and what earlier runs found. Stable Rust: the flags are those of cargo-fuzz without
# a sanitizer.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh build
cd fuzz
seconds=${FUZZ_S:-60}
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
# With a target given, the flags are for the code under test and not for build scripts.
cargo build --quiet --release --locked --target "$host"
for target in ${FUZZ_TARGETS:-packet session command record reference}; do
  mkdir -p "corpus/$target" "artifacts/$target"
  echo "--- $target, $seconds s"
  "$CARGO_TARGET_DIR/$host/release/$target" -max_total_time="$seconds" -max_len=4200 -timeout=5 \
    -print_final_stats=1 -verbosity=0 -artifact_prefix="artifacts/$target/" "corpus/$target" "seeds/$target"
done
