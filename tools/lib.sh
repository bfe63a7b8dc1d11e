# Shared by the scripts of this project; sourced, not run.
# shellcheck shell=bash disable=SC2034
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Where builds are kept: cargo's own setting, else target/.
target_dir=${CARGO_TARGET_DIR:-$root/target}
case $target_dir in /*) ;; *) target_dir=$root/$target_dir ;; esac

# What is worth keeping beyond one clone of the project.
cache_dir=${QUORUMSCALE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/quorumscale}

# The server, wherever it was built.
binary=$root/target/release/quorumscale

# To standard error, so that a script's output stays what it was asked for.
say() { printf '%s\n' "$*" >&2; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# apt_install PACKAGE...: the only thing that ever needs root here.
apt_install() {
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    have sudo || die "not installed: $*. Install them as root (apt-get install $*), then try again."
    as_root=(sudo)
  fi
  have apt-get || die "not installed: $*. These are Debian's names for them; this system has no apt-get."
  say "installing: $*"
  local install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@")
  # The package lists may never have been fetched, or be too old.
  "${install[@]}" >&2 || { "${as_root[@]}" apt-get update -q >&2 && "${install[@]}" >&2; } ||
    die "apt-get could not install: $*"
}
