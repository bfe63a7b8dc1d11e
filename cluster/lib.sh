# The three replicas on this machine; sourced, not run.
# shellcheck shell=bash disable=SC2034

source "$(dirname "${BASH_SOURCE[0]}")/../tools/lib.sh"

replicas=(1 2 3)
# The ports of each replica, on its own loopback address; see cluster/nodeN.yaml.
tcp_ports=(8080 8443 9090 7946)
udp_ports=(3478)

config() { printf '%s/cluster/node%s.yaml' "$root" "$1"; }
run_dir() { printf '%s/run/node%s' "$root" "$1"; }
address() { printf '127.0.0.%s' "$1"; }

# server N ARGUMENTS...: the command line, speaking to replica N.
server() {
  local replica=$1
  shift
  "$binary" -c "$(config "$replica")" "$@"
}

# pid_of N: the process id of replica N, if it runs. A pid file that is left
# over may name a process that has nothing to do with us.
pid_of() {
  local pid
  pid=$(cat "$(run_dir "$1")/pid" 2>/dev/null) || return 1
  is_replica "$pid" "$1" || return 1
  printf '%s\n' "$pid"
}

# is_replica PID N: whether this process is our server with replica N's configuration.
is_replica() {
  [[ $1 =~ ^[0-9]+$ ]] && [ -r "/proc/$1/cmdline" ] || return 1
  local command
  command=$(tr '\0' ' ' <"/proc/$1/cmdline")
  [[ $command == "$binary "*"serve"* && $command == *"$(config "$2")"* ]]
}
