#!/usr/bin/env bash
# Builds both images without a Docker engine and tries them without network, as their user, on a read-only root.
# Prints sizes and times. Needs root, buildah, and debootstrap where the base image can't be pulled; else it skips.
# About 8 minutes and 6 GB under TMPDIR, all removed again. Not seen here: port mappings, memory limits, GPUs.
set -euo pipefail
cd "$(dirname "$0")/.."

BASE=docker.io/library/python:3.11-slim-bookworm
DIGITS=51716 # said in the bundled recording, which Whisper base, in the images, writes down
ROW="%-6s %8s %8s %8s %9s %11s %7s %7s\n"
SERVER=""

main() {
  need buildah && need curl && need ip && need nsenter
  [ "$(id -u)" = 0 ] || skip "needs root"
  WORK=$(mktemp -d)
  export TMPDIR=$WORK # buildah keeps its cache mounts there
  trap clean_up EXIT
  mkdir "$WORK/root"
  write_pip_config
  store pull --quiet "$BASE" >"$WORK/log" 2>&1 || make_stand_in
  # shellcheck disable=SC2059  # one format for heads and values
  printf "$ROW" image size "of base" build healthy transcribe stop memory >"$WORK/table"
  check cpu
  check cuda
  cat "$WORK/table"
}

check() {
  local build_s healthy_s transcribe_s stop_s memory
  FROM=$EPOCHREALTIME
  build "$1"
  build_s=$(elapsed)
  FROM=$EPOCHREALTIME
  start "sotto:$1"
  healthy_s=$(elapsed)
  nsenter --target "$(inner)" --mount --root --wd=/ touch /opt/probe 2>/dev/null && fail "the root is writable"
  inside python -c "$UNREACHABLE" || fail "an outside address can be reached"
  [[ $(inside sotto --version) == "sotto "* ]] || fail "no version"
  [ "$1" = cpu ] || inside python -c "import ctypes; ctypes.CDLL('libcublas.so.12')" || fail "cuBLAS does not load"
  FROM=$EPOCHREALTIME
  transcribe
  transcribe_s=$(elapsed)
  memory=$(memory)
  # onnxruntime, for one, would leave a device id for what it reports to its maker.
  [ -z "$(inside find /models /spool -type f)" ] || fail "left behind: $(inside find /models /spool -type f)"
  FROM=$EPOCHREALTIME
  stop
  stop_s=$(elapsed)
  # shellcheck disable=SC2059
  printf "$ROW" "$1" "$SIZE" "$BASE_SIZE" "$build_s" "$healthy_s" "$transcribe_s" "$stop_s" "$memory" \
    >>"$WORK/table"
}

build() {
  echo "building sotto:$1 ..."
  store bud --isolation chroot --pull-never --format docker --file "Dockerfile.$1" --tag "sotto:$1" \
    --volume "$WORK/pip.conf:/etc/pip.conf:ro" \
    --volume /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro \
    . >"$WORK/log" 2>&1 || fail "Dockerfile.$1 does not build"
}

# Starts what the image says, with its variables, user, folder and volumes, until its own health check passes.
start() {
  local container root
  echo "running $1 ..."
  eval "$(store inspect --type image "$1" | python3 -c "$CONFIGURATION")"
  container=$(store from --pull-never "$1")
  root=$(store mount "$container")
  rm -rf "$WORK/volumes"
  mkdir "$WORK/volumes"
  cp --archive "$root/models" "$root/spool" "$WORK/volumes" # a new volume takes owner and mode from the image
  unshare --net --mount --pid --fork --kill-child bash -c 'enter "$@"' - "$root" "$WORK/volumes" "$IMAGE_USER" \
    env --ignore-environment "--chdir=$FOLDER" "HOME=$FOLDER" "${VARIABLES[@]}" "${COMMAND[@]}" >"$WORK/log" 2>&1 &
  SERVER=$!
  for _ in {1..600}; do
    if inside "${HEALTH[@]}" 2>/dev/null; then return; fi
    kill -0 "$SERVER" 2>/dev/null || fail "the server ended"
    sleep 0.1
  done
  fail "not healthy within a minute"
}

# In new namespaces, where the only network is loopback: makes the root a container's, then becomes the command.
enter() {
  local root=$1 volumes=$2 owner=$3
  ip link set lo up
  mount --bind "$root" "$root"
  cd "$root"
  mount --rbind /dev "$root/dev"
  mount -t proc proc "$root/proc"
  mount --bind "$volumes/models" "$root/models"
  mount --bind "$volumes/spool" "$root/spool"
  mount -o remount,bind,ro "$root"
  exec chroot "$root" setpriv --reuid="${owner%:*}" --regid="${owner#*:}" --clear-groups --no-new-privs \
    --bounding-set=-all --inh-caps=-all "${@:4}"
}
export -f enter

inner() { tr -d ' ' <"/proc/$SERVER/task/$SERVER/children"; } # its first process, by the host's number

inside() { # a command beside the server, as its user
  nsenter --target "$(inner)" --net --mount --pid --root --wd=/ \
    --setuid "${IMAGE_USER%:*}" --setgid "${IMAGE_USER#*:}" env --ignore-environment "${VARIABLES[@]}" "$@"
}

transcribe() { # the recording of the checkout, the command of the README
  nsenter --target "$(inner)" --net curl --silent --show-error --noproxy '*' --output "$WORK/answer" \
    -F model=whisper-1 -F file=@models/demo/sample.wav \
    http://127.0.0.1:8000/v1/audio/transcriptions
  [[ $(sed 's/"usage".*//; s/[^0-9]//g' "$WORK/answer") == "$DIGITS" ]] || fail "not $DIGITS but $(cat "$WORK/answer")"
}

memory() { # of all its processes, shared pages counted once
  nsenter --target "$(inner)" --mount --pid --root --wd=/ sh -c 'cat /proc/[0-9]*/smaps_rollup' 2>/dev/null \
    | awk '/^Pss:/ { kib += $2 } END { printf "%.0f MB", kib * 1.024 / 1e3 }'
}

stop() {
  local status=0
  kill -TERM "$(inner)"
  wait "$SERVER" || status=$?
  SERVER=""
  [ "$status" = 0 ] || fail "SIGTERM ended it with $status"
}

# Debian 12's own Python is 3.11 too: bootstrapped from this machine's mirror where that has Debian 12.
make_stand_in() {
  local mirror container root=$WORK/root
  need debootstrap
  echo "$BASE can't be pulled: making a stand-in, which is larger ..."
  # shellcheck disable=SC2016  # apt's variables, not the shell's
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' \
    | awk '$2 == "bookworm" && $3 == "main" { print $1; exit }')
  debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip bookworm "$root" \
    "${mirror:-http://deb.debian.org/debian}" >"$WORK/log" 2>&1 || fail "no Debian for a stand-in"
  rm -f "$root"/usr/lib/python3.11/EXTERNALLY-MANAGED
  ln -s /usr/bin/python3 "$root/usr/local/bin/python"
  container=$(store from scratch)
  store add --quiet "$container" "$root" / >/dev/null
  store commit --quiet --rm "$container" "$BASE" >/dev/null
}

# How pip reaches its index from this machine; mounted while building, so that no image and no Dockerfile knows it.
write_pip_config() {
  echo "[global]" >"$WORK/pip.conf"
  python3 -m pip config list | sed -nE "s/^(:env:|global)\.(cert|index-url|proxy|trusted-host)='(.*)'$/\2 = \3/p" \
    | sort --unique --field-separator='=' --key=1,1 >>"$WORK/pip.conf"
}

store() { buildah --root "$WORK/store" --runroot "$WORK/run" "$@"; }
elapsed() { awk -v from="$FROM" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1f s", to - from }'; }
need() { command -v "$1" >/dev/null || skip "there is no $1"; }
skip() { echo "check_images: skipped, $*" && exit 0; }
fail() { tail -n 40 "$WORK/log" >&2 && echo "check_images: $*" >&2 && exit 1; }

clean_up() {
  # The first process itself: with another user's id, it no longer gets --kill-child's signal.
  [ -z "$SERVER" ] || kill -KILL "$(inner)" "$SERVER" 2>/dev/null || true
  store umount --all >/dev/null 2>&1 || true
  store rm --all >/dev/null 2>&1 || true
  rm -rf --one-file-system "$WORK"
}

UNREACHABLE='
import errno, socket
assert socket.socket().connect_ex(("192.0.2.1", 80)) == errno.ENETUNREACH'

CONFIGURATION='
import json, shlex, sys
image = json.load(sys.stdin)
config = image["Docker"]["config"]
sizes = [layer["size"] for layer in json.loads(image["Manifest"])["layers"]]
for name, words in {
    "VARIABLES": config["Env"],
    "COMMAND": config["Entrypoint"] + config["Cmd"],
    "HEALTH": config["Healthcheck"]["Test"][1:],
    "FOLDER": [config["WorkingDir"]],
    "IMAGE_USER": [config["User"]],
    "SIZE": [f"{sum(sizes) / 1e6:.0f} MB"],
    "BASE_SIZE": [f"{sizes[0] / 1e6:.0f} MB"],
}.items():
    print(f"{name}=({shlex.join(words)})")'

main
