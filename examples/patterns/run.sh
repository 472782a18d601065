#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# run.sh: run the patterns, and look at what they print: EXPECT has a line for each.
# The programs are those in $WEFT_BUILDDIR/examples/patterns.
set -euo pipefail

src=${WEFT_SRCDIR:-.} build=${WEFT_BUILDDIR:-.}
tests=0 bad=0
while IFS='|' read -r program text; do
    case $program in '' | '#'*) continue ;; esac
    tests=$((tests + 1)) rc=0
    # shellcheck disable=SC2086 # WEFT_EMULATOR is a command and its options
    said=$(timeout -k 5 60 ${WEFT_EMULATOR:-} "$build/examples/patterns/$program" 2>&1) || rc=$?
    if [ "$rc" = 0 ] && [[ $said == *"$text"* ]]; then
        echo "ok $program: $text"
    else
        echo "not ok $program: exit status $rc; it lacks: $text"
        sed 's/^/    | /' <<<"$said"
        bad=$((bad + 1))
    fi
done <"$src/examples/patterns/EXPECT"
echo "$tests patterns, $bad not as expected"
[ "$bad" = 0 ] && [ "$tests" -gt 0 ]
