# Who has a port; sourced, not run. Reads /proc, because neither ss nor lsof
# is on every machine.
# shellcheck shell=bash

# port_taken tcp|udp ADDRESS PORT: prints who has it, if anyone has.
port_taken() {
  local inode owner
  inode=$(socket_inode "$1" "$2" "$3") || return 1
  owner=$(socket_owner "$inode") || owner="a process of another user"
  printf '%s\n' "$owner"
}

# socket_inode tcp|udp ADDRESS PORT: of the socket that is bound to this
# address, or to all addresses.
socket_inode() {
  local protocol=$1 a b c d
  IFS=. read -r a b c d <<<"$2"
  # The kernel prints addresses as it holds them: little-endian words.
  local v4 port
  v4=$(printf '%02X%02X%02X%02X' "$d" "$c" "$b" "$a")
  port=$(printf '%04X' "$3")
  # In /proc/net/tcp state 0A is a listener; a bound UDP socket has 07.
  local state=0A
  [ "$protocol" = udp ] && state=07
  cat "/proc/net/$protocol" "/proc/net/${protocol}6" 2>/dev/null | awk \
    -v one="$v4:$port" -v mapped="0000000000000000FFFF0000$v4:$port" \
    -v any4="00000000:$port" -v any6="00000000000000000000000000000000:$port" -v state="$state" '
    $4 == state && ($2 == one || $2 == mapped || $2 == any4 || $2 == any6) { print $10; found = 1; exit }
    END { exit !found }'
}

# socket_owner INODE: its process; of other users' processes only root sees it.
socket_owner() {
  local descriptor pid
  descriptor=$(find /proc/[0-9]*/fd -maxdepth 1 -lname "socket:\[$1\]" 2>/dev/null | head -n 1) || true
  [ -n "$descriptor" ] || return 1
  pid=${descriptor#/proc/}
  pid=${pid%%/*}
  printf 'process %s (%s)\n' "$pid" "$(tr '\0\n' '  ' <"/proc/$pid/cmdline" | cut -c1-80)"
}
