#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# check_cxx.sh: C++ programs linked with libweft, without preemption, at the usual slice, and
# under two storms: exceptions in coroutines; typed channels, whose header must compile without
# a warning.
set -euo pipefail

src=${WEFT_SRCDIR:-.} build=${WEFT_BUILDDIR:-.}
if [ "${WEFT_SANITIZER:-no}" != no ]; then
    echo "skipped: programs outside the tree are not built for a sanitizer"
    exit 77
fi
if [ -n "${WEFT_EMULATOR:-}" ]; then
    echo "skipped: no cross compiler for C++"
    exit 77
fi
libs=$build/.libs
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
tests=0 bad=0

for cxx in g++ clang++; do
    command -v $cxx >/dev/null || continue
    for library in shared static; do
        link=("-L$libs" -lweft)
        if [ "$library" = static ]; then link=("$libs/libweft.a"); fi
        [ -e "$libs/libweft.so" ] || [ "$library" = static ] || continue
        [ -e "$libs/libweft.a" ] || [ "$library" = shared ] || continue
        # What a compiler cannot link at all is no fault of ours (clang without libstdc++).
        printf '#include <string>\nint main() { return (int)std::string().size(); }\n' >"$tmp/t.cc"
        if ! $cxx -o "$tmp/t" "$tmp/t.cc" 2>"$tmp/log"; then
            echo "left out: $cxx does not work: $(tail -n 1 "$tmp/log")"
            continue
        fi
        $cxx -std=c++17 -O2 -Wall -Wextra -I"$src/include" -o "$tmp/exceptions" \
            "$src/tests/behaviour/exceptions.cc" "${link[@]}" -lpthread -ldl
        $cxx -std=c++17 -O2 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wold-style-cast -Werror -I"$src/include" \
            -o "$tmp/typed" "$src/tests/behaviour/typed.cc" "${link[@]}" -lpthread -ldl
        for program in exceptions typed; do
            for debug in preempt=off "" preempt=200 preempt=50; do
                tests=$((tests + 1)) rc=0
                said=$(LD_LIBRARY_PATH=$libs WEFT_DEBUG=$debug timeout 60 "$tmp/$program" 1 2>&1) || rc=$?
                if [ "$rc" = 0 ]; then
                    echo "ok $cxx ($library) $program, ${debug:-usual slice}: $said"
                else
                    echo "not ok $cxx ($library) $program, ${debug:-usual slice}: exit status $rc: $said"
                    bad=$((bad + 1))
                fi
            done
        done
    done
done
if [ "$tests" = 0 ]; then
    echo "skipped: no C++ compiler"
    exit 77
fi
echo "$tests runs, $bad wrong"
[ "$bad" = 0 ]
