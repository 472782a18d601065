#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# gdb.sh: what gdb's bt makes of a coroutine: in its own code, and at every
# instruction of a switch. Each backtrace must end at arch_entry (or, on a
# thread's own stack, at main or the thread's start), with no frame that gdb
# cannot name and no complaint.
#
# usage: gdb.sh [SPIN]      (default: tests/debug/spin of the build directory)
set -u

if grep -qsE 'define WEFT_[AT]SAN 1' "${WEFT_BUILDDIR:-.}/config.h"; then
    echo "skipped: a sanitizer's frames and stacks are its own"
    exit 77
fi
spin=${1:-tests/debug/spin}
command -v gdb >/dev/null || { echo "gdb.sh: no gdb: skipped"; exit 77; }
[ -x "$spin" ] || { echo "gdb.sh: no program $spin"; exit 1; }
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT

run_gdb()
{
    timeout 60 gdb -q -nx -batch -ex 'set debuginfod enabled off' -ex 'set breakpoint pending on' \
        -ex 'set pagination off' -ex 'set width 0' -ex 'handle SIGURG nostop noprint' \
        "$@" --args "$spin" 0.2 >"$out" 2>&1
    if grep -qE 'ptrace: Operation not permitted|Could not trace' "$out"; then
        echo "gdb.sh: ptrace is not permitted here: skipped"
        exit 77
    fi
}

fail()
{
    echo "gdb.sh: $1"
    cat "$out"
    exit 1
}

# The frames' function names, innermost first, of the n-th backtrace.
frames()
{
    awk -v n="$1" '/^#0 /{k++} /^#[0-9]+ /{ if (k == n) {
        f = ($2 ~ /^0x/) ? $4 : $2; printf "%s ", f } }' "$out"
}

run_gdb -ex 'break spin_leaf' -ex run -ex bt -ex 'delete' -ex 'kill'
got=$(frames 1)
[[ $got == "spin_leaf spin_middle spin_start "*"arch_entry " ]] ||
    fail "backtrace in a coroutine: $got"
grep -qE '\?\?|corrupt|Backtrace stopped' "$out" && fail "garbage in the backtrace"
echo "gdb.sh: in a coroutine: $got"

# Step through the first three switches, bt at each instruction.
step='set $n = 0
while $n < 3
  continue
  set $i = 0
  set $lo = $pc
  while $i < 60 && $pc >= (long)&arch_switch && $pc < (long)&arch_entry + 16
    bt
    stepi
    set $i = $i + 1
  end
  set $n = $n + 1
end'
script=$(mktemp) || exit 1
trap 'rm -f "$out" "$script"' EXIT
printf 'break *(long)&arch_switch\nset scheduler-locking step\n%s\nkill\n' "$step" >"$script"
run_gdb -ex 'break main' -ex run -x "$script"
total=$(grep -c '^#0 ' "$out")
[ "$total" -ge 60 ] || fail "only $total backtraces while stepping"
grep -qE '\?\?|corrupt|Backtrace stopped' "$out" && fail "garbage while stepping through a switch"
bad=$(awk '/^#0 /{ if (last != "") print last; } /^#[0-9]+ /{ f = ($2 ~ /^0x/) ? $4 : $2; last = f }
    END { print last }' "$out" | grep -vE '^(arch_entry|main|_start|clone3?|__clone3?|start_thread)$' | sort | uniq -c)
[ -z "$bad" ] || fail "backtraces that end elsewhere: $bad"
ends=$(awk '/^#0 /{ if (last != "") print last; } /^#[0-9]+ /{ f = ($2 ~ /^0x/) ? $4 : $2; last = f }
    END { print last }' "$out" | sort | uniq -c | tr -s ' \n' ' ')
case $ends in *arch_entry*) ;; *) fail "no backtrace on a coroutine's stack while stepping" ;; esac
echo "gdb.sh: $total backtraces in switches end at:$ends"
