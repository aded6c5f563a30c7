#!/usr/bin/env bash
# make check: what must hold before a change lands, apart from the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh build

step() {
  printf 'check: %s\n' "$*" >&2
  "$@"
}
step cargo fmt --all --check
step cargo clippy --quiet --workspace --all-targets -- -D warnings
# The pages are for those who read the code, so they show private items, and may link to them.
RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" step cargo doc --quiet --workspace --no-deps --document-private-items
step cargo test --quiet --package latchline-e2e --test it imports::
if command -v cargo-deny >/dev/null; then
  step cargo deny --log-level error check
else
  printf 'check: cargo-deny is not installed: licences and advisories are not checked\n' >&2
fi
