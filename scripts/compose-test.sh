#!/usr/bin/env bash
# make compose-test: the containers of docker-compose.yml as people start them, tried from outside.
#
# Builds the images, starts them, waits until all are healthy, goes the whole way through the published
# ports (`journey run`), restarts each container in turn while locks report and are commanded
# (`journey traffic`, which accounts for every acknowledged message at the end), and takes all of it
# down again, also after a failure.
#
# Docker is used where it is there. As root on Debian what is missing of it is installed, but nothing is
# removed for that, and where no registry can be reached, ../shared/offline-images/build makes stand-ins
# for the public images, if that folder exists. DOCKER names another client.
#
# It runs beside a stack and touches nothing of it: the project and the images' tag have names of their
# own, ports are others where the usual ones are taken, and neither COMPOSE_* and LATCHLINE_* of the
# caller nor .env nor an override file count.
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
# Somebody's real stack may be named in them: what is taken down with its volumes must be ours.
unset "${!COMPOSE_@}" "${!LATCHLINE_@}"
export COMPOSE_PROJECT_NAME=latchline-test-$$ LATCHLINE_VERSION=test
scratch=$(mktemp -d -t compose-test.XXXXXX)
mkdir "$scratch/keep"
: >"$scratch/no.env"

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
  local client kit
  docker=
  for client in ${DOCKER:-docker /usr/bin/docker}; do
    client=$(command -v "$client") || continue
    "$client" info >/dev/null 2>&1 || continue
    # From 18.09 to 20.10 it is built in; since then it is a plugin.
    kit=0
    if [[ $("$client" version --format '{{.Client.Version}}') =~ ^(18|19|20)\. ]] || "$client" buildx version >/dev/null 2>&1; then
      kit=1
    fi
    [[ -z $docker || $kit == 1 ]] && docker=$client && export DOCKER_BUILDKIT=$kit
    [[ $kit == 1 ]] && break
  done
  [[ -n $docker ]] || return 1
  export COMPOSE_DOCKER_CLI_BUILD=1 BUILDKIT_PROGRESS=plain
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
  compose+=(--env-file "$scratch/no.env" --file docker-compose.yml)
}

# Only what is missing, and never in the place of another package: Docker may be there but stopped, or
# without Compose, or from elsewhere than this system's packages.
install_docker() {
  local missing=()
  [[ $(id -u) -eq 0 ]] || return 1
  [[ -n $docker ]] || command -v dockerd >/dev/null || missing+=(docker.io iptables ca-certificates)
  command -v docker-compose >/dev/null || docker compose version >/dev/null 2>&1 || missing+=(docker-compose)
  if ((${#missing[@]})); then
    command -v apt-get >/dev/null || return 1
    say "installing from this system's packages: ${missing[*]}"
    {
      apt-get -q update &&
        DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-remove --no-install-recommends "${missing[@]}"
    } >"$scratch/apt.log" 2>&1 </dev/null || { say "$(tail -n 1 "$scratch/apt.log")" && return 1; }
  fi
  docker_answers || start_docker
}

docker_answers() { "${docker:-docker}" info >/dev/null 2>&1; }

# It stays for the next run.
start_docker() {
  say "starting the Docker daemon"
  if [[ -d /run/systemd/system ]]; then
    systemctl start docker || return 1
  else
    setsid dockerd >"${TMPDIR:-/tmp}/dockerd.log" 2>&1 </dev/null &
  fi
  local until=$((SECONDS + 30))
  until docker_answers; do
    ((SECONDS < until)) || return 1
    sleep 0.5
  done
}

have_images() {
  local image
  for image in "${PUBLIC[@]}"; do
    "$docker" image inspect "$image" >/dev/null 2>&1 || timeout --foreground 300 "$docker" pull --quiet "$image" >/dev/null 2>&1 || return 1
  done
}

prepare() {
  local found=1
  find_docker || { install_docker && find_docker; } || found=
  [[ -n $found || -x $OFFLINE ]] ||
    cannot "Docker with Compose is not here and could not be installed or started (root and apt-get are needed)"
  if [[ -z $found ]] || ! have_images; then
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
    port=${entry#*:}
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

# What is there of this project: containers, volumes, networks.
remains() {
  local label=label=com.docker.compose.project=$COMPOSE_PROJECT_NAME
  "$docker" ps -aq --filter "$label"
  "$docker" ps -aq --filter "name=^$COMPOSE_PROJECT_NAME-"
  "$docker" volume ls -q --filter "$label"
  "$docker" network ls -q --filter "$label"
}

take_down() {
  "$docker" rm -f "$COMPOSE_PROJECT_NAME"-{run,traffic,again} >/dev/null 2>&1
  "${compose[@]}" --profile demo --profile test down -v --remove-orphans --timeout 10 >"$scratch/down.log" 2>&1
  [[ -z $(remains 2>&1) ]] || { tail -n 20 "$scratch/down.log" && return 1; }
}

images() { "$docker" image ls -q --no-trunc "$@" | sort -u; }

# Whatever happens: shows why, and leaves nothing behind.
clean_up() {
  local status=$?
  # `timeout` sends its signal twice, to this process and to its group.
  trap '' TERM INT HUP
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
    if take_down; then
      say "taken down"
    else
      say "FAILED: not all of $COMPOSE_PROJECT_NAME could be taken down"
      ((status != 0)) || status=1
    fi
  fi
  # Those that this run's build replaced. Images of others stay.
  # shellcheck disable=SC2046
  [[ -z ${replaceable:-} ]] || "$docker" image rm $(comm -12 <(echo "$replaceable") <(images --filter dangling=true)) >/dev/null 2>&1
  rm -rf "$scratch"
  exit "$status"
}
trap clean_up EXIT
trap 'trap "" TERM INT HUP; exit 143' TERM INT HUP

# The way in is that of people: the published ports, so from the host's network. With an init process,
# so that a signal to the client ends it: without, a program that is the first of its container ignores it.
journey() {
  local environment=() name
  for name in $names; do environment+=(-e "$name"); done
  "$docker" run --rm -i --init --network host --read-only --cap-drop ALL --security-opt no-new-privileges \
    --user "$(id -u):$(id -g)" --volume "$scratch/keep:/keep" --name "$COMPOSE_PROJECT_NAME-$1" "${environment[@]}" \
    "latchline/journey:$LATCHLINE_VERSION" "$@"
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

build() {
  replaceable=$(images "latchline/*:$LATCHLINE_VERSION")
  "${compose[@]}" --profile test build >"$scratch/build.log" 2>&1 || { tail -n 60 "$scratch/build.log" && return 1; }
}

start() {
  up=1
  timeout --foreground 600 "${compose[@]}" up -d >"$scratch/up.log" 2>&1 || { tail -n 40 "$scratch/up.log" && return 1; }
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

# The journey says it once reports are acknowledged and commands acted on.
begin() {
  local until=$((SECONDS + 180))
  until grep -q 'are on their way' "$scratch/traffic.log"; do
    kill -0 "$traffic" 2>/dev/null && ((SECONDS < until)) || { cat "$scratch/traffic.log" && return 1; }
    sleep 0.5
  done
}

so_far() { grep '^so far ' "$scratch/traffic.log" | tail -n 1 | tr -cs '0-9\n' ' '; }

# More reports and more commands than at the time of the call.
go_on() {
  local until=$((SECONDS + 120)) reports=0 commands=0 more_reports=0 more_commands=0
  read -r reports commands < <(so_far) || true
  until ((more_reports > reports && more_commands > commands)); do
    kill -0 "$traffic" 2>/dev/null && ((SECONDS < until)) || { tail -n 5 "$scratch/traffic.log" && return 1; }
    sleep 0.5
    read -r more_reports more_commands < <(so_far) || true
  done
}

prepare
choose_ports
began=$SECONDS
timed "images are built" build
timed "all containers are healthy" start
timed "the programs accept their settings" check_settings

lines=$("${compose[@]}" run --rm -T secrets environment 2>"$scratch/environment.log" </dev/null) ||
  fail "secrets environment: $(tail -n 1 "$scratch/environment.log")"
names=$(sed -n 's/^export \([A-Z_]*\)=.*/\1/p' <<<"$lines")
eval "$lines"
look_for_secrets
timed "the whole way through the published ports" journey run --account /keep/account </dev/null

mkfifo "$scratch/until"
journey traffic --until-stdin-closes <"$scratch/until" >"$scratch/traffic.log" 2>&1 &
traffic=$!
exec 9>"$scratch/until"
timed "reports and commands are on their way" begin
for service in "${SERVICES[@]}"; do
  timed "$service is restarted under traffic" restart "$service"
  go_on || fail "no reports or no commands after the restart of $service"
done
exec 9>&-
timed "every acknowledged message is accounted for" wait "$traffic"
tail -n 12 "$scratch/traffic.log"
timed "what was seen before is still so" journey again /keep/account </dev/null
say "passed in $((SECONDS - began)) s"
