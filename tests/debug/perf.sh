#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# perf.sh: perf record -g (frame pointers) and --call-graph dwarf on a coroutine
# that computes: samples in it must reach arch_entry and end there.
#
# usage: perf.sh [SPIN]     (default: tests/debug/spin of the build directory)
set -u

if grep -qsE 'define WEFT_[AT]SAN 1' "${WEFT_BUILDDIR:-.}/config.h"; then
    echo "skipped: a sanitizer's frames and stacks are its own"
    exit 77
fi
spin=${1:-tests/debug/spin}
command -v perf >/dev/null || { echo "perf.sh: no perf: skipped"; exit 77; }
[ -x "$spin" ] || { echo "perf.sh: no program $spin"; exit 1; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

perf record -q -e task-clock:u -o "$dir/probe" true >"$dir/err" 2>&1 ||
    { echo "perf.sh: perf is not permitted here: skipped"; exit 77; }

# Each sample in the spinning coroutine: how its chain ends.
look()
{
    local mode=$1
    shift
    perf record -q -e task-clock:u -F 250 "$@" -o "$dir/data" "$spin" 1 >"$dir/err" 2>&1 ||
        { echo "perf.sh: $mode: perf record failed"; cat "$dir/err"; exit 1; }
    perf script -i "$dir/data" -F ip,sym 2>/dev/null | awk -v mode="$mode" '
        function finish() {
            if (n == 0 || !spinning) { n = 0; spinning = 0; return }
            all++
            if (last == "arch_entry" || last == "arch_start") good++ # two names of one place
            else { bad[last]++ }
            if (unknown) garbage++
            n = 0; spinning = 0; unknown = 0
        }
        /^$/ { finish(); next }
        { n++; last = $2; if ($2 ~ /^spin_/) spinning = 1; if ($2 == "[unknown]") unknown = 1 }
        END {
            finish()
            printf "perf.sh: %s: %d samples in the coroutine, %d end at arch_entry, %d with unknown frames\n",
                mode, all, good, garbage
            for (b in bad) printf "perf.sh: %s: %d end at %s\n", mode, bad[b], b
            # libc and the vDSO keep no frame pointers: a rare sample at the start of
            # a call into them has a frame without a name.
            allowed = mode == "dwarf" ? 0 : all / 50
            exit !(all >= 20 && good == all && garbage <= allowed)
        }' || exit 1
}

look "frame pointers" -g
look "dwarf" --call-graph dwarf,4096
