#!/usr/bin/env bash
# Installs what building, testing or the demo needs and this machine lacks. Called by the make targets.
#
#   scripts/setup.sh build   C and C++ compilers, make, pkg-config, OpenSSL and zlib headers, curl
#   scripts/setup.sh run     the same, and PostgreSQL, unless DATABASE_URL names a server
#   scripts/setup.sh chaos   the same, and libfaketime, which steps clocks
#   scripts/setup.sh test    the same, and the independent clients of the tests: mosquitto_pub, kcat
#
# With KAFKA=apache also Java 17 and Maven, which are used where they are found anyway.
# On Debian and Ubuntu it installs, as root or by sudo, and asks nothing; elsewhere it says what is
# missing. Where nothing is missing it takes a few milliseconds and prints nothing.
set -euo pipefail

say() { printf 'setup: %s\n' "$*" >&2; }
fail() {
  say "$@"
  exit 1
}

# Prints the Debian packages that would provide what is missing.
missing() {
  command -v cc >/dev/null || echo gcc libc6-dev
  # librdkafka's configure wants a C++ compiler, although nothing of it that we use is C++.
  command -v c++ >/dev/null || echo g++
  command -v make >/dev/null || echo make
  command -v curl >/dev/null || echo curl ca-certificates
  if command -v pkg-config >/dev/null; then
    pkg-config --exists openssl || echo libssl-dev
    pkg-config --exists zlib || echo zlib1g-dev
  else
    echo pkg-config libssl-dev zlib1g-dev
  fi
  if [[ $1 != build && -z ${DATABASE_URL:-} ]]; then
    has_postgres || echo postgresql
  fi
  if [[ $1 == chaos || $1 == test ]]; then
    has_libfaketime || echo libfaketime
  fi
  if [[ $1 == test ]]; then
    command -v mosquitto_pub >/dev/null || echo mosquitto-clients
    command -v kcat >/dev/null || echo kcat
  fi
  if [[ ${KAFKA:-} == apache ]]; then
    java_is_recent || echo openjdk-17-jre-headless
    command -v mvn >/dev/null || echo maven
  fi
}

# Debian keeps the server's programs out of the path.
has_postgres() {
  command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null
}

# Where LIBFAKETIME says, else where Debian keeps it.
has_libfaketime() {
  [[ -f ${LIBFAKETIME:-} ]] || compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null
}

java_is_recent() {
  local major
  major=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
  [[ -n $major && $major -ge 17 ]]
}

install() {
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q)
  if [[ $(id -u) -ne 0 ]]; then
    sudo -n true 2>/dev/null || fail "missing: $*; run: sudo apt-get install -y $*"
    apt=(sudo -n "${apt[@]}")
  fi
  say "installing from this system's packages: $*"
  local log
  log=$(mktemp)
  # The package lists of a fresh machine are empty or old.
  if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    fail "apt-get failed; its output is in $log"
  fi
  rm -f "$log"
}

[[ ${1:-} =~ ^(build|run|chaos|test)$ ]] || fail "usage: scripts/setup.sh build|run|chaos|test"
command -v cargo >/dev/null || fail "Rust is missing: see https://rustup.rs"

read -r -d '' -a packages < <(missing "$1") || true
if ((${#packages[@]})); then
  command -v apt-get >/dev/null ||
    fail "missing, by the names of the Debian packages: ${packages[*]}; install them, then try again"
  install "${packages[@]}"
  read -r -d '' -a packages < <(missing "$1") || true
  ((${#packages[@]} == 0)) || fail "still missing after the installation: ${packages[*]}"
fi
