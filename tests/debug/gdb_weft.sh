#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# gdb_weft.sh: tools/gdb/weft.py finds each coroutine of tests/debug/parked.c in the function it was
# stopped in, by list and by backtrace, with the locals of its frames: parked on a private stack, on a
# copied one in its window and in its block, blocked in the kernel, preempted, running; in a process, in gdb's
# core file of it, in the kernel's, and with a library that was stripped.
#
# usage: gdb_weft.sh     (in the build directory)
set -u

if grep -qsE 'define WEFT_[AT]SAN 1' "${WEFT_BUILDDIR:-.}/config.h"; then
    echo "skipped: a sanitizer's frames and stacks are its own"
    exit 77
fi
top=$(cd "${WEFT_SRCDIR:-$(dirname "$0")/../..}" && pwd)
build=$(cd "${WEFT_BUILDDIR:-.}" && pwd)
program=$build/tests/debug/parked
command -v gdb >/dev/null || { echo "gdb_weft.sh: no gdb: skipped"; exit 77; }
gdb -q -nx -batch -ex 'python import gdb.unwinder; gdb.PendingFrame.level' 2>&1 | grep -q . &&
    { echo "gdb_weft.sh: gdb without Python, or before 12: skipped"; exit 77; }
[ -x "$program" ] || { echo "gdb_weft.sh: no program $program"; exit 1; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
out=$dir/out bad=0
locals=$(readelf -SW "$program" | grep -c '\.debug_info')
export WEFT_DEBUG=windows=1 TMPDIR=$dir

gdb_on() # ARGUMENT...: gdb's output to $out
{
    timeout 100 gdb -q -nx -batch -ex 'set debuginfod enabled off' -ex 'set pagination off' \
        -ex 'set width 0' -ex 'handle SIGURG nostop noprint' "$@" >"$out" 2>&1
    if grep -qE 'ptrace: Operation not permitted|Could not trace' "$out"; then
        echo "gdb_weft.sh: ptrace is not permitted here: skipped"
        exit 77
    fi
}

failed() # WHAT
{
    echo "not ok $1"
    bad=1
    complaints=$((complaints + 1))
}

expect() # WHERE WHAT REGEX
{
    grep -qE -- "$3" "$out" || failed "$1: $2"
}

# The part of $out that `weft all bt` says of a coroutine.
backtrace() # NAME
{
    awk -v head="^Coroutine [0-9]+ \"$1\" " '/^Coroutine /{ on = $0 ~ head } /^---/{ exit } on' "$out"
}

# What each is to be found in. FRAMES: bt with an end and no unknown frame is asked for.
check_all() # WHERE [FRAMES]
{
    local where=$1 frames=${2:-} name function state secret bt
    complaints=0
    while read -r name function secret state; do
        expect "$where" "list: $name" "^[0-9]+ +$name +$state .*$function"
        bt=$(backtrace "$name")
        grep -qE "^#[0-9]+ .* ?$function \(" <<<"$bt" || failed "$where: bt of $name has no $function"
        if [ "$secret" != - ] && [ "$locals" != 0 ]; then
            grep -qE "^ +secret = $secret\$" <<<"$bt" || failed "$where: $name: secret is not $secret"
        fi
        [ -n "$frames" ] || continue
        [[ $(grep '^#' <<<"$bt" | tail -n 1) == *" arch_entry ("* ]] ||
            failed "$where: bt of $name ends elsewhere"
    done <<'LIST'
receiver parked_receive 1001 chan.receive
locker parked_lock 1002 sync.Mutex.Lock
sleeper parked_sleep 1003 sleep
waiter parked_wait 1004 chan.receive
blocked read - (syscall|running)
held held_spin - (runnable,.preempted|runnable|running|syscall)
moved moved_spin - (runnable,.preempted|runnable|running|syscall)
running (marker|kill|raise|abort) - (running|syscall)
LIST
    expect "$where" "main's line" '^1 +chan receive .* entry +entry'
    expect "$where" "an unbuffered channel" '= open channel 0x[0-9a-f]+, unbuffered of 4 bytes, 2 receiving \('
    expect "$where" "a buffered channel" '= open channel 0x[0-9a-f]+, 3 of 4 elements of 4 bytes$'
    expect "$where" "a closed channel" '= closed channel 0x[0-9a-f]+, unbuffered of 1 byte$'
    expect "$where" "a mutex" '= locked, 1 waiting$'
    expect "$where" "an rwmutex" '= locked by 2 readers$'
    expect "$where" "a semaphore" '= 5 free$'
    expect "$where" "a wait group" '= counter 8$'
    expect "$where" "a condition variable" '= 0 waiting$'
    expect "$where" "a once" '= not done$'
    expect "$where" "info weft procs" '^1 procs; global queue '
    expect "$where" "info weft threads" '^[0-9]+ +[0-9]+ +[0-9]+ .*running +'
    grep -qE 'Traceback|Python Exception|Error occurred|corrupt|Backtrace stopped' "$out" &&
        failed "$where: complaints"
    [ -z "$frames" ] || ! grep -q '?? ()' "$out" || failed "$where: unknown frames"
    if [ "$complaints" = 0 ]; then
        echo "ok $where"
    else
        cat "$out"
    fi
}

look=(-ex 'info weft coroutines' -ex 'weft all bt -full' -ex 'echo ---\n' -ex 'info weft procs'
    -ex 'info weft threads')
for object in gate full closed mutex rwmutex sem wg cond once; do look+=(-ex "print $object"); done
script=(-ex "source $top/tools/gdb/weft.py")
run=(-ex 'break marker' -ex run)
# With less address space there is less to write to a core file.
small=4000000

gdb_on -ex "set exec-wrapper bash -c 'ulimit -v $small; exec \"\$0\" \"\$@\"'" \
    "${script[@]}" "${run[@]}" "${look[@]}" -ex "weft gcore $dir/gcore" \
    -ex 'weft all -name "lock*" -state Mutex printf "of %d, %d\n", 3, sizeof(int)' \
    -ex 'weft 3 bt 1' -ex 'weft 3.1 frame' -ex 'weft 3 frame 2' -ex 'weft 3 continue' \
    -ex continue "$program"
check_all "a process" frames
complaints=0
# Frames by number: of weft 3 bt 1 and the next two.
got=$(sed '1,/^Saved corefile/d' "$out" | sed -n 's/^\(#[0-9]*\) .*/\1/p' | tr '\n' ' ')
[ "$got" = "#0 #1 #2 " ] || failed "numbers of frames: $got"
expect "a process" "a command with quotes" '^of 3, 4$'
expect "a process" "it was let run" 'a coroutine cannot be run by itself'
expect "a process" "it does not end as it should" 'exited normally'
[ "$complaints" = 0 ] || cat "$out"

if [ -s "$dir/gcore" ]; then
    gdb_on "${script[@]}" "${look[@]}" "$program" "$dir/gcore"
    check_all "gdb's core file" frames
else
    complaints=0
    failed "weft gcore: no file"
fi
rm -f "$dir/gcore"

# The kernel's core file.
pattern=$(cat /proc/sys/kernel/core_pattern 2>/dev/null)
case $pattern in
'' | '|'* | */*) echo "skip the kernel's core file: it goes elsewhere" ;;
*)
    mkdir "$dir/core"
    { (cd "$dir/core" && ulimit -c unlimited && ulimit -v "$small" && exec "$program" 0 abort); } >/dev/null 2>&1
    core=$(find "$dir/core" -type f)
    if [ -n "$core" ]; then
        gdb_on "${script[@]}" "${look[@]}" "$program" "$core"
        check_all "the kernel's core file" frames
    else
        echo "skip the kernel's core file: none was written"
    fi
    rm -rf "$dir/core"
    ;;
esac

# A stripped library, and the script loaded with it.
lib=$(readlink -f "$build/.libs/libweft.so" 2>/dev/null || true)
if [ -n "$lib" ] && command -v strip >/dev/null; then
    name=$(basename "$lib")
    mkdir "$dir/lib" && cp "$lib" "$dir/lib/$name" && strip "$dir/lib/$name"
    ln -s "$name" "$dir/lib/libweft.so.0"
    cp -r "$top/tools/gdb/weftgdb" "$dir/lib/weftgdb"
    cp "$top/tools/gdb/weft.py" "$dir/lib/$name-gdb.py"
    gdb_on -iex "add-auto-load-safe-path $dir/lib" -ex "set env LD_LIBRARY_PATH $dir/lib" \
        "${run[@]}" "${look[@]}" "$program"
    check_all "a stripped library"
else
    echo "skip a stripped library: there is no shared one"
fi

# Thousands are shown in groups.
complaints=0
gdb_on "${script[@]}" "${run[@]}" -ex 'info weft coroutines' -ex 'info weft coroutines -name locker' \
    -ex 'info weft coroutines -each -state chan' -ex 'print gate' --args "$program" 3000
expect "thousands" "a group" '^3000 +chan receive .* crowd_member +entry .* [0-9]+,[0-9]+,[0-9]+,\.\.\.$'
expect "thousands" "all" '^3009 coroutines'
expect "thousands" "by name" '^[0-9]+ +locker +sync.Mutex.Lock .* parked_lock '
expect "thousands" "by state, each" '^3003 coroutines'
expect "thousands" "their channel" '1000 or more receiving'
if [ "$complaints" = 0 ]; then echo "ok thousands"; else head -n 60 "$out"; fi

exit "$bad"
