#!/usr/bin/env bash
# make compose-test: the containers of docker-compose.yml as people start them, tried from outside.
#
# Builds the images, starts them, waits until all are healthy, goes the whole way through the published
# ports (`journey run`), restarts each container in turn while locks report and are commanded
# (`journey traffic`, which accounts for every acknowledged message at the end), and takes all of it
# down again, also after a failure.
#
# Docker is used where it is there. As root on Debian it is installed where it is missing, and where no
# registry can be reached, ../shared/offline-images/build makes stand-ins for the public images, if that
# folder exists. DOCKER names another client. The project has a name of its own
# (COMPOSE_PROJECT_NAME), and other ports where the usual ones are taken: it runs beside a stack.
#
# Exit code 0: all came true; 1: it did not; 75: there is no Docker to try it with, and why is said.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly CANNOT=75
readonly PUBLIC=(debian:bookworm-slim rust:1-bookworm postgres:17 apache/kafka:4.1.0)
readonly OFFLINE=../shared/offline-images/build
# In the order in which they are restarted.
readonly SERVICES=(kafka postgres broker auditor monitor notifier mail sms)
readonly PORTS=(MQTT:1883 WEBSOCKET:8083 BROKER:18083 AUDITOR:8101 MONITOR:8102 NOTIFIER:8103 MAIL:8025 SMS:8026)
readonly HEALTHY_S=300
export COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-latchline-test}
scratch=$(mktemp -d -t compose-test.XXXXXX)
mkdir "$scratch/keep"

say() { printf 'compose-test: %s\n' "$*"; }
fail() {
  say "FAILED: $*"
  exit 1
}
cannot() {
  say "cannot run: $*"
  exit "$CANNOT"
}

# ---- Docker

# A client that reaches a server, one with BuildKit if there is one.
find_docker() {
  local client with_kit=
  docker=
  for client in ${DOCKER:-docker /usr/bin/docker}; do
    client=$(command -v "$client") && "$client" info >/dev/null 2>&1 || continue
    with_kit=0
    # Before 23 it is built in; since then it is a plugin.
    [[ $("$client" version --format '{{.Client.Version}}') =~ ^(1|20)\. ]] || "$client" buildx version >/dev/null 2>&1 ||
      with_kit=1
    [[ -z $docker || $with_kit == 0 ]] && docker=$client
    [[ $with_kit == 0 ]] && break
  done
  [[ -n $docker ]] || return 1
  export DOCKER_BUILDKIT=$((1 - with_kit)) COMPOSE_DOCKER_CLI_BUILD=1 BUILDKIT_PROGRESS=plain
  # Compose 1.29 calls the client that it finds first.
  mkdir -p "$scratch/bin"
  ln -sf "$docker" "$scratch/bin/docker"
  if "$docker" compose version >/dev/null 2>&1; then
    compose=("$docker" compose)
  elif command -v docker-compose >/dev/null; then
    compose=(env "PATH=$scratch/bin:$PATH" docker-compose)
  else
    return 1
  fi
}

install_docker() {
  [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null || return 1
  say "installing Docker from this system's packages"
  {
    apt-get -q update &&
      DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends docker.io docker-compose iptables ca-certificates
  } >"$scratch/apt.log" 2>&1 </dev/null || return 1
  /usr/bin/docker info >/dev/null 2>&1 && return
  # No service manager has started it. It stays for the next run.
  setsid dockerd >"${TMPDIR:-/tmp}/dockerd.log" 2>&1 </dev/null &
  local until=$((SECONDS + 30))
  until /usr/bin/docker info >/dev/null 2>&1; do
    ((SECONDS < until)) || return 1
    sleep 0.5
  done
}

have_images() {
  local image
  for image in "${PUBLIC[@]}"; do
    "$docker" image inspect "$image" >/dev/null 2>&1 || timeout 300 "$docker" pull --quiet "$image" >/dev/null 2>&1 || return 1
  done
}

prepare() {
  find_docker || { install_docker && find_docker; } || [[ -x $OFFLINE ]] ||
    cannot "Docker with Compose is not here and could not be installed (root and apt-get are needed)"
  if [[ -z ${docker:-} ]] || ! have_images; then
    [[ -x $OFFLINE ]] || cannot "no registry can be reached for ${PUBLIC[*]}"
    [[ $(id -u) -eq 0 ]] || cannot "no registry can be reached, and only root can make stand-ins"
    say "no registry can be reached: $OFFLINE makes stand-ins for the public images"
    "$OFFLINE" "${PUBLIC[@]}" >"$scratch/offline.log" 2>&1 ||
      cannot "$OFFLINE failed: $(tail -n 1 "$scratch/offline.log")"
    find_docker || cannot "there is no Docker with Compose after $OFFLINE"
  fi
  say "$("$docker" --version), $("${compose[@]}" version --short 2>/dev/null | head -n 1) of Compose, BuildKit $DOCKER_BUILDKIT"
}

# ---- The stack

taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Ports of its own where the usual ones are taken.
choose_ports() {
  local entry variable port
  for entry in "${PORTS[@]}"; do
    variable=LATCHLINE_${entry%:*}_PORT
    port=${!variable:-${entry#*:}}
    while taken "$port"; do port=$((20000 + RANDOM % 12000)); done
    export "$variable=$port"
  done
  export LATCHLINE_BIND=127.0.0.1
}

# Name, state and health of each container, one a line.
states() {
  # shellcheck disable=SC2046
  "$docker" inspect --format \
    '{{index .Config.Labels "com.docker.compose.service"}} {{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{end}}' \
    $("${compose[@]}" ps -q 2>/dev/null) 2>/dev/null
}

all_healthy() {
  local service now
  now=$(states) || return 1
  for service in "${SERVICES[@]}"; do
    grep -qx "$service running healthy" <<<"$now" || return 1
  done
}

wait_healthy() {
  local until=$((SECONDS + HEALTHY_S))
  until all_healthy; do
    ((SECONDS < until)) || fail "not healthy after $HEALTHY_S s: $(states | grep -v ' healthy$' | tr '\n' ';')"
    sleep 0.5
  done
}

# Whatever happens: shows why, and leaves nothing behind.
clean_up() {
  local status=$?
  trap - EXIT
  set +e
  exec 9>&-
  if [[ -n ${up:-} ]]; then
    if ((status != 0)); then
      say "--- containers"
      "${compose[@]}" ps 2>&1 | tail -n 20
      [[ -s $scratch/traffic.log ]] && { say "--- traffic" && tail -n 40 "$scratch/traffic.log"; }
      say "--- logs"
      "${compose[@]}" logs --no-color --tail=40 "${SERVICES[@]}" 2>&1 | tail -n 400
    fi
    "$docker" rm -f "$COMPOSE_PROJECT_NAME-traffic" >/dev/null 2>&1
    "${compose[@]}" --profile demo --profile test down -v --remove-orphans --timeout 10 >/dev/null 2>&1
    # Layers that this build replaced; those of others stay.
    "$docker" image prune --force --filter label=org.opencontainers.image.vendor=Latchline >/dev/null 2>&1
    say "taken down"
  fi
  rm -rf "$scratch"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 143' TERM INT HUP

# The way in is that of people: the published ports, so from the host's network.
journey() {
  local environment=() name
  for name in $names; do environment+=(-e "$name"); done
  "$docker" run --rm -i --network host --read-only --cap-drop ALL --security-opt no-new-privileges \
    --user "$(id -u):$(id -g)" --volume "$scratch/keep:/keep" --name "$COMPOSE_PROJECT_NAME-$1" "${environment[@]}" \
    "latchline/journey:${LATCHLINE_VERSION:-0.1.0}" "$@"
}

# Files are the only place of secrets: what `docker inspect` shows must not have one.
look_for_secrets() {
  local name shown
  # shellcheck disable=SC2046
  shown=$("$docker" inspect $("${compose[@]}" ps -q kafka postgres broker auditor monitor notifier mail sms))
  for name in LATCHLINE_API_TOKEN LATCHLINE_PASSWORD LATCHLINE_ADMINISTRATOR_PASSWORD LATCHLINE_MASTER_KEY; do
    [[ -n ${!name:-} ]] || fail "secrets environment does not say $name"
    ! grep -qF -- "${!name}" <<<"$shown" || fail "docker inspect shows $name"
  done
  ! grep -qF '"POSTGRES_PASSWORD=' <<<"$shown" || fail "docker inspect shows the password of Postgres"
}

timed() { # what, command …
  local started=$SECONDS what=$1
  shift
  "$@" || fail "$what"
  say "$(printf '%-42s %4d s' "$what" $((SECONDS - started)))"
}

build() { "${compose[@]}" --profile test build >"$scratch/build.log" 2>&1 || { tail -n 60 "$scratch/build.log" && return 1; }; }

start() {
  up=1
  "${compose[@]}" down -v --remove-orphans --timeout 10 >/dev/null 2>&1 || true
  timeout 600 "${compose[@]}" up -d >"$scratch/up.log" 2>&1 || { tail -n 40 "$scratch/up.log" && return 1; }
  wait_healthy
}

check_settings() {
  local service
  for service in broker auditor monitor notifier; do
    "${compose[@]}" exec -T "$service" "latchline-$service" check </dev/null >"$scratch/check.log" 2>&1 ||
      { cat "$scratch/check.log" && return 1; }
  done
}

restart() {
  "${compose[@]}" restart --timeout 60 "$1" >/dev/null 2>&1 || return 1
  wait_healthy
}

prepare
choose_ports
began=$SECONDS
timed "images are built" build
timed "all containers are healthy" start
timed "the programs accept their settings" check_settings

lines=$("${compose[@]}" run --rm -T secrets environment 2>/dev/null </dev/null)
names=$(sed -n 's/^export \([A-Z_]*\)=.*/\1/p' <<<"$lines")
eval "$lines"
look_for_secrets
timed "the whole way through the published ports" journey run --account /keep/account </dev/null

mkfifo "$scratch/until"
journey traffic --until-stdin-closes <"$scratch/until" >"$scratch/traffic.log" 2>&1 &
traffic=$!
exec 9>"$scratch/until"
for service in "${SERVICES[@]}"; do
  timed "$service is restarted under traffic" restart "$service"
  kill -0 "$traffic" 2>/dev/null || fail "the traffic ended by itself"
done
exec 9>&-
timed "every acknowledged message is accounted for" wait "$traffic"
tail -n 12 "$scratch/traffic.log"
timed "what was seen before is still so" journey again /keep/account </dev/null
say "passed in $((SECONDS - began)) s"
