#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# valgrind.sh: memcheck finds what a coroutine does wrong, on a stack of either kind, names the
# function, and has nothing to say of programs that are right.
#
# usage: valgrind.sh     (in the build directory)
set -u

if grep -qsE 'define WEFT_[AT]SAN 1' "${WEFT_BUILDDIR:-.}/config.h"; then
    echo "skipped: a sanitizer and valgrind do not go together"
    exit 77
fi
grep -qs 'define HAVE_VALGRIND 1' "${WEFT_BUILDDIR:-.}/config.h" ||
    { echo "valgrind.sh: built without valgrind's headers: skipped"; exit 77; }
command -v valgrind >/dev/null || { echo "valgrind.sh: no valgrind: skipped"; exit 77; }
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT
bad=0

memcheck() # PROGRAM...: its status, 99 if memcheck has found anything; $out has the words
{
    # --fair-sched: its lock of all locks goes round
    timeout 300 valgrind -q --fair-sched=try --error-exitcode=99 "$@" >"$out" 2>&1
}

clean()
{
    memcheck "$@" && { echo "ok clean: $*"; return; }
    echo "not ok clean: $*"
    head -n 60 "$out"
    bad=1
}

found()
{
    memcheck "$@"
    if [ $? = 99 ] && grep -q 'Invalid read of size 4' "$out" && grep -q 'at 0x.*: misread' "$out"; then
        echo "ok found: $*"
    else
        echo "not ok found: $*"
        head -n 60 "$out"
        bad=1
    fi
}

for stack in private copied; do
    clean tests/debug/misread "$stack" well
    found tests/debug/misread "$stack"
    WEFT_DEBUG=windows=2 clean tests/debug/misread "$stack" well
done
export WEFT_STRESS_SECONDS=1
for t in copied sched select chan; do
    clean "tests/stress/stress_$t"
done
exit $bad
