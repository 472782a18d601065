#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# probes.sh: libweft.so has each static probe with its arguments; the scripts of tools/bpf name the reasons to wait
# as the library does, and, where the kernel lets bpftrace run, they see what a program does.
set -u

src=${WEFT_SRCDIR:-.} build=${WEFT_BUILDDIR:-.}
lib=$build/.libs/libweft.so traced=$build/tests/debug/traced
fail()
{
    echo "probes.sh: $*"
    exit 1
}
grep -qs 'define HAVE_SDT 1' "$build/config.h" || { echo "probes.sh: built without <sys/sdt.h>: skipped"; exit 77; }
command -v readelf >/dev/null || { echo "probes.sh: no readelf: skipped"; exit 77; }
[ -e "$lib" ] || { echo "probes.sh: no shared library: skipped"; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

# ---- each probe, and how many arguments it has ----
readelf -nW "$lib" >"$dir/notes" || fail "readelf failed"
for probe in spawn:3 exit:1 ready:1 switch:2 park:2 resume:1 preempt:3 handoff:3 retake:3 \
    stack_save:2 stack_load:2 stack_grow:2 netpoll:2; do
    awk -v name="${probe%:*}" -v want="${probe#*:}" '
        /Provider:/ { ours = $NF == "weft" }
        $1 == "Name:" { is = ours && $2 == name; n += is }
        $1 == "Arguments:" && is && NF - 1 != want { bad = 1 }
        END { exit !(n > 0 && !bad) }' "$dir/notes" || fail "no probe ${probe%:*} with ${probe#*:} arguments"
done
echo "probes.sh: 13 probes"

# ---- the reasons of offcpu.bt ----
if command -v python3 >/dev/null; then
    WEFT_DEBUG=trace=$dir/trace "$traced" >/dev/null || fail "traced failed"
    python3 - "$dir/trace" "$src/tools/bpf/offcpu.bt" <<'PY' || fail "offcpu.bt has other reasons than the library"
import re, struct, sys
data, why = open(sys.argv[1], 'rb').read(), {}
for at in range(0, len(data) - 31, 32):
    if data[at + 31] == 5:  # TRACE_WHY
        n = struct.unpack_from('<Q', data, at + 8)[0]
        why[n] = why.get(n, b'') + data[at + 16:at + 30]
why = {n: text.rstrip(b'\0').decode() for n, text in why.items()}
never = {'waiting', 'runnable', 'preempted', 'syscall'}  # nobody parks for these
there = dict((int(n), s) for n, s in re.findall(r'@reason\[(\d+)\] = "(.*?)"', open(sys.argv[2]).read()))
want = {n: s for n, s in why.items() if s not in never}
if want != there or len(want) < 10:
    print('library:', want, '\nscript:', there)
    sys.exit(1)
PY
fi

# ---- bpftrace ----
if ! command -v bpftrace >/dev/null || ! timeout 20 bpftrace -e 'BEGIN { exit(); }' >/dev/null 2>&1; then
    echo "probes.sh: bpftrace is not there, or not permitted: its scripts are not run"
    exit 0
fi
if grep -qsE 'define WEFT_[AT]SAN 1' "$build/config.h"; then
    echo "probes.sh: a sanitizer's library is not for bpftrace"
    exit 0
fi
# An interrupt that comes before all is attached is lost.
end_bpftrace() # PID
{
    for _ in $(seq 60); do
        kill -INT "$1" 2>/dev/null || return
        sleep 0.5
    done
    kill -KILL "$1" 2>/dev/null
}
wait_for() # FILE PATTERN
{
    for _ in $(seq 300); do
        grep -qs -- "$2" "$1" && return
        sleep 0.1
    done
}
# The program is there until bpftrace has ended, which then looks up its symbols.
watch() # SCRIPT SECONDS
{
    local bpf program
    rm -f "$dir/out" "$dir/$1"
    bpftrace "$src/tools/bpf/$1.bt" "$lib" >"$dir/$1" 2>&1 &
    bpf=$!
    wait_for "$dir/$1" Attaching
    sleep "$2"
    "$traced" 60 >"$dir/out" &
    program=$!
    wait_for "$dir/out" .
    end_bpftrace $bpf
    kill $program
    wait $bpf $program 2>/dev/null
    [ -s "$dir/out" ] || fail "traced failed under $1.bt"
}
# Nothing says when bpftrace is ready: if it was too late, once more.
see() # SCRIPT PATTERN...
{
    local script=$1 seconds pattern found
    shift
    for seconds in 1 5 20; do
        watch "$script" $seconds
        found=yes
        for pattern; do
            grep -qE -- "$pattern" "$dir/$script" || found=
        done
        [ -z "$found" ] || return
    done
    cat "$dir/$script"
    fail "$script.bt: not all of: $*"
}
see runqlat '^@us:' '\|@+'
see offcpu '@us\[sleep\]' '@us\[chan (receive|send)\]'
total=$(sed -n 's/^@total_us\[sleep\]: //p' "$dir/offcpu")
[ "${total:-0}" -ge 95000 ] || fail "offcpu.bt: a sleep of 100 ms took ${total:-no} us"
see preempt 'traced_compute|busy'
echo "probes.sh: bpftrace has seen them"
