#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# perf.sh: perf record -g (frame pointers) and --call-graph dwarf on a coroutine
# that computes: samples in it must reach arch_entry and end there.
#
# Then on three that compute in a function each (busy.c): the right function, from the entry on.
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
look() # MODE PERF-OPTION...: longer where a busy machine gives it little time
{
    local rc=0
    look_for 1 "$@" || rc=$?
    if [ "$rc" = 3 ]; then
        rc=0
        look_for 8 "$@" || rc=$?
    fi
    [ "$rc" = 0 ] || exit 1
}

look_for() # SECONDS MODE PERF-OPTION...
{
    local seconds=$1 mode=$2
    shift 2
    perf record -q -e task-clock:u -F 250 "$@" -o "$dir/data" "$spin" "$seconds" >"$dir/err" 2>&1 ||
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
            allowed = mode == "dwarf" ? 0 : 1 + all / 50
            if (all < 20) exit 3
            exit !(good == all && garbage <= allowed)
        }'
}

look "frame pointers" -g
look "dwarf" --call-graph dwarf,4096

# ---- three functions in three coroutines -----------------------------------------
#
# Each sample, but for those of the thread that only watches, must lie in one of the three busy functions (95 of 100), below the callers of that one and no
# other, from the coroutine's entry on; no frame may be without a name. (Samples of the tick's handler are not
# looked at in that respect, nor is one of its return: it runs on the alternate stack, and perf keeps a part of one stack only.)
busy=$(dirname "$spin")/busy
[ -x "$busy" ] || { echo "perf.sh: no program $busy"; exit 1; }

three() # MODE STACK HOW PERF-OPTION...
{
    local mode=$1 stack=$2 how=$3
    shift 3
    perf record -q -e task-clock:u -F 500 "$@" -o "$dir/data" "$busy" 500 "$stack" "$how" >"$dir/out" 2>&1 ||
        { echo "perf.sh: $mode, $stack, $how: perf record failed"; cat "$dir/out"; exit 1; }
    read -r _ a b c <<<"$(grep '^calls' "$dir/out")"
    perf script -i "$dir/data" -F comm,ip,sym 2>/dev/null |
        awk -v what="$mode, $stack, $how" -v a="$a" -v b="$b" -v c="$c" '
        function finish(   n, k) {
            if (chain == "" || thread == "weft-monitor")
                return
            all++
            if (match(chain, /^burn_[012] /)) {
                k = substr(chain, 6, 1)
                if (chain == "burn_" k " middle_" k " start_" k " coro_start arch_entry ") { right++; hit[k]++ }
                else wrong[chain]++
            }
            if (chain ~ /(burn|middle|start)_[012] / && chain !~ /tick_handler|__restore_rt/ && chain ~ /\[unknown\]/) { unknown++; wrong[chain]++ }
        }
        /^[^ \t]/ { finish(); thread = $1; chain = ""; next } # the first line of a sample
        NF >= 2 { chain = chain $2 " " }
        END {
            finish()
            calls = a + b + c
            printf "perf.sh: %s: %d samples, %d in the right function and from the entry on (%d %d %d; calls %d %d %d), %d with unknown frames\n",
                what, all, right, hit[0], hit[1], hit[2], a, b, c, unknown
            for (w in wrong) printf "perf.sh: %s: %d times: %s\n", what, wrong[w], w
            if (all < 50 || right < 0.95 * all || unknown > 0)
                exit 1
            for (k = 0; k < 3; k++) { # the shares, to a tenth of the whole
                part = (k == 0 ? a : k == 1 ? b : c) / calls
                if (hit[k] / right - part > 0.1 || part - hit[k] / right > 0.1) exit 1
            }
        }' || { echo "perf.sh: $mode, $stack, $how: not so"; exit 1; }
}

for stack in private copied; do
    for how in hot moved resumed; do
        # one window: what is resumed on a copied stack has been copied away and back
        if [ "$stack $how" != "copied hot" ]; then export WEFT_DEBUG=windows=1; else unset WEFT_DEBUG; fi
        three "frame pointers" "$stack" "$how" -g
        three dwarf "$stack" "$how" --call-graph dwarf,4096
    done
done

# And the picture of it: tools/flamegraph.
flamegraph=${WEFT_SRCDIR:-$(dirname "$0")/../..}/tools/flamegraph
perf script -i "$dir/data" -F ip,sym,dso 2>/dev/null | bash "$flamegraph" "three <functions>" >"$dir/svg" ||
    { echo "perf.sh: flamegraph failed"; exit 1; }
for f in burn_0 middle_1 start_2 coro_start; do
    grep -q "<title>$f: [0-9]* samples, " "$dir/svg" || { echo "perf.sh: flamegraph: no $f"; exit 1; }
done
if ! grep -q '>three &lt;functions&gt;<' "$dir/svg" || [ "$(tail -n 1 "$dir/svg")" != "</svg>" ] ||
    [ "$(grep -c '^<g>' "$dir/svg")" != "$(grep -c '</g>$' "$dir/svg")" ]; then
    echo "perf.sh: flamegraph: not well-formed"
    exit 1
fi
echo "perf.sh: flamegraph: $(grep -c '^<g>' "$dir/svg") frames"
