#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# check_errno.sh: <weft.h>'s errno is right in a function that moved to another
# thread, however the function was compiled: -O2, -O3, with link-time
# optimisation, position-independent, against the shared and the static library,
# by the build's compiler, gcc and clang.
#
# The control is the same program with libc's errno: compiled by gcc -O2 it must be
# wrong, else the test shows nothing.
#
# A variant that a compiler cannot link at all (clang's LTO without its linker
# plugin) is named and left out.
set -euo pipefail

src=${WEFT_SRCDIR:-.} build=${WEFT_BUILDDIR:-.}
if [ "${WEFT_SANITIZER:-no}" != no ]; then
    echo "skipped: programs outside the tree are not built for a sanitizer"
    exit 77
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
libs=$build/.libs
program=$src/tests/behaviour/errno_moved.c
tests=0 bad=0 missing=0

own=$("$build/libtool" --config 2>/dev/null | sed -n 's/^CC="\(.*\)"$/\1/p' || true)
own=${own:-gcc}
compilers=("$own")
if [ -z "${WEFT_EMULATOR:-}" ]; then
    for cc in gcc clang; do
        if [ "$cc" != "$own" ] && command -v $cc >/dev/null; then compilers+=("$cc"); fi
    done
fi

compile() # COMPILER OUTPUT FLAG...
{
    local words out=$2
    read -r -a words <<<"$1" # a compiler may carry options
    shift 2
    "${words[@]}" -D_GNU_SOURCE -I"$src/include" "$@" -o "$out" 2>"$tmp/errors"
}

run() # PROGRAM
{
    local emulator
    read -r -a emulator <<<"${WEFT_EMULATOR:-}"
    LD_LIBRARY_PATH=$libs timeout 60 "${emulator[@]}" "$1" 10
}

variant() # COMPILER LIBRARY FLAG...
{
    local cc=$1 library=$2 rc=0 said link
    shift 2
    if [ "$library" = shared ]; then link=("-L$libs" -lweft); else link=("$libs/libweft.a"); fi
    printf 'int main(void) { return 0; }\n' >"$tmp/empty.c"
    if ! compile "$cc" "$tmp/empty" "$@" "$tmp/empty.c"; then
        echo "left out: $cc $*: $(tail -n 1 "$tmp/errors")"
        missing=$((missing + 1))
        return
    fi
    tests=$((tests + 1))
    if ! compile "$cc" "$tmp/program" "$@" "$program" "${link[@]}" -lpthread -ldl; then
        echo "not ok $cc $* ($library): does not compile"
        sed 's/^/    | /' "$tmp/errors"
        bad=$((bad + 1))
        return
    fi
    said=$(run "$tmp/program") || rc=$?
    if [ "$rc" = 0 ]; then
        echo "ok $cc $* ($library): $said"
    else
        echo "not ok $cc $* ($library): $said, exit status $rc"
        bad=$((bad + 1))
    fi
}

for cc in "${compilers[@]}"; do
    for library in shared static; do
        if [ "$library" = shared ]; then [ -e "$libs/libweft.so" ] || continue; fi
        if [ "$library" = static ]; then [ -e "$libs/libweft.a" ] || continue; fi
        variant "$cc" $library -O2
        variant "$cc" $library -O3
        variant "$cc" $library -O2 -fPIC -pie
        variant "$cc" $library -O3 -flto
        variant "$cc" $library -O3 -flto -fPIC -pie
    done
done

if command -v gcc >/dev/null && [ -z "${WEFT_EMULATOR:-}" ] && [ -e "$libs/libweft.a" ]; then
    tests=$((tests + 1)) rc=0
    compile gcc "$tmp/control" -O2 -DWEFT_KEEP_ERRNO "$program" "$libs/libweft.a" -lpthread -ldl
    said=$(run "$tmp/control") || rc=$?
    if [ "$rc" = 1 ]; then
        echo "ok control: with libc's errno it is wrong: $said"
    else
        echo "not ok control: libc's errno was not caught: $said, exit status $rc"
        bad=$((bad + 1))
    fi
fi
echo "$tests variants, $bad wrong, $missing left out"
[ "$bad" = 0 ] && [ "$tests" -gt 1 ]
