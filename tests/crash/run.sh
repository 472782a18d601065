#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# run.sh: run the programs that must die, and look at how they did.
#
# usage: tests/crash/run.sh [PROGRAM...]     (all by default)
#
# EXPECT beside this script has one line for each:
#
#   program | exit status or signal name | text that stderr must contain
#
# A line that begins with ~ needs names of static functions, which only a build
# with libunwind can tell.
#
# Several lines for one program ask for several texts of the same death.
# The programs are those in $WEFT_BUILDDIR/tests/crash.
set -euo pipefail

src=${WEFT_SRCDIR:-.} build=${WEFT_BUILDDIR:-.}
expect=$src/tests/crash/EXPECT
err=$(mktemp)
trap 'rm -f "$err"' EXIT
ulimit -c 0
tests=0 bad=0 names=1
grep -qs 'define HAVE_LIBUNWIND 1' "$build/config.h" || names=0
if grep -qs 'define WEFT_TSAN 1' "$build/config.h"; then
    echo "skipped: the thread sanitizer takes these signals over"
    exit 77
fi
asan=0 # its own handler turns a death by SIGSEGV into exit status 1
if grep -qs 'define WEFT_ASAN 1' "$build/config.h"; then asan=1; fi

trim()
{
    local s=$1
    s=${s#"${s%%[![:space:]]*}"}
    printf '%s' "${s%"${s##*[![:space:]]}"}"
}

# An exit status of 128 + N may be an exit or a death by signal N: ask the shell
# for the signal's name and let EXPECT say which it wants.
died='' rc=0 # who died last, and how; its words are in $err
verdict() # PROGRAM WANTED-STATUS TEXT
{
    local program=$1 want=$2 text=$3 got
    if [ "$program" != "$died" ]; then
        died=$program rc=0
        # shellcheck disable=SC2086 # WEFT_EMULATOR is a command and its options
        timeout -k 5 60 ${WEFT_EMULATOR:-} "$build/tests/crash/$program" >/dev/null 2>"$err" </dev/null || rc=$?
    fi
    got=$rc
    case $want in
    [A-Z]*) if [ "$asan" = 1 ] && [ "$rc" = 1 ]; then want=1; elif [ "$rc" -gt 128 ]; then got=SIG$(kill -l $((rc - 128))); fi
        [ "$want" = 1 ] || want=SIG${want#SIG} ;;
    esac
    if [ "$got" != "$want" ]; then
        echo "not ok $program: ended with $got, not $want"
    elif ! grep -qF -- "$text" "$err"; then
        echo "not ok $program: stderr lacks: $text"
    else
        echo "ok $program: $want, $text"
        return 0
    fi
    sed 's/^/    | /' "$err" | head -n 40
    return 1
}

while IFS='|' read -r program want text; do
    program=$(trim "$program")
    case $program in '' | '#'*) continue ;; esac
    if [[ $program == '~'* ]]; then
        [ "$names" = 1 ] || continue
        program=$(trim "${program#\~}")
    fi
    if [ $# -gt 0 ] && [[ " $* " != *" $program "* ]]; then continue; fi
    tests=$((tests + 1))
    verdict "$program" "$(trim "$want")" "$(trim "$text")" || bad=$((bad + 1))
done <"$expect"

echo "$tests deaths, $bad not as expected"
[ "$bad" = 0 ] && [ "$tests" -gt 0 ]
