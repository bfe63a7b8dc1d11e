# Three fresh replicas for measurements, on loopback addresses of their own, so that those of `make up` may run
# beside them; sourced, not run. A cluster is a directory.
# shellcheck shell=bash disable=SC2034

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

binary=${BINARY:-$binary}
healthy_within=30
stopped_within=20
bench_servers=http://127.0.77.1:8080,http://127.0.77.2:8080,http://127.0.77.3:8080

config() { printf '%s/node%s.yaml' "$1" "$2"; }
server() { "$binary" -c "$(config "$1" "$2")" "${@:3}"; }

# fresh_cluster DIR: healthy, with the user 1.
fresh_cluster() {
  stop "$1"
  rm -rf "$1"
  make_cluster "$1"
  start "$1"
  wait_until_healthy "$1"
  server "$1" 1 users create bench >/dev/null
}

# The three replicas of `make up`, at other addresses and with other directories.
make_cluster() {
  local replica
  umask 077
  for replica in 1 2 3; do
    mkdir -p "$1/node$replica"
    sed -e 's/127\.0\.0\./127.0.77./g' -e "s|\.\./run/|$1/|" "$root/cluster/node$replica.yaml" >"$(config "$1" "$replica")"
  done
  "$binary" generate secret >"$1/node1/secret"
  cp "$1/node1/secret" "$1/node2/secret"
  cp "$1/node1/secret" "$1/node3/secret"
}

start() {
  local replica
  for replica in 1 2 3; do
    setsid "$binary" serve -c "$(config "$1" "$replica")" >>"$1/node$replica/log" 2>&1 </dev/null &
    printf '%s\n' "$!" >"$1/node$replica/pid"
  done
}

# is_ours PID DIR: not a process that got an old number.
is_ours() {
  [ -r "/proc/$1/cmdline" ] && [[ $(tr '\0' ' ' <"/proc/$1/cmdline") == "$binary serve -c $2/"* ]]
}

stop() {
  local file pid pids=() deadline=$((SECONDS + stopped_within))
  for file in "$1"/node*/pid; do
    pid=$(cat "$file" 2>/dev/null) || continue
    is_ours "$pid" "$1" || continue
    kill -TERM "$pid"
    pids+=("$pid")
  done
  for pid in "${pids[@]}"; do
    while is_ours "$pid" "$1"; do
      [ "$SECONDS" -lt "$deadline" ] || kill -KILL "$pid" 2>/dev/null || true
      sleep 0.02
    done
  done
}

wait_until_healthy() {
  local replica deadline=$((SECONDS + healthy_within))
  for replica in 1 2 3; do
    until server "$1" "$replica" health >/dev/null 2>&1; do
      if [ "$SECONDS" -ge "$deadline" ]; then
        tail -n 15 "$1/node$replica/log" >&2
        die "replica $replica is not healthy within $healthy_within s"
      fi
      sleep 0.2
    done
  done
}
