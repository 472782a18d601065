#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# check_fast.sh: what weft.h defines inline, compiled as users may: strictly, in C and C++, at every
# optimisation, with link-time optimisation, and not at all. Each program runs
# (fast_program.c), and has the exported functions called where they must be, and only there.
set -euo pipefail

src=${WEFT_SRCDIR:-.} build=${WEFT_BUILDDIR:-.}
if [ "${WEFT_SANITIZER:-no}" != no ]; then
    echo "skipped: programs outside the tree are not built for a sanitizer"
    exit 77
fi
if [ -n "${WEFT_EMULATOR:-}" ]; then
    echo "skipped: not for another processor"
    exit 77
fi
libs=$build/.libs
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
tests=0 bad=0
result() # WORDS...: $rc says how it went
{
    tests=$((tests + 1))
    if [ "$rc" = 0 ]; then
        echo "ok $*"
    else
        echo "not ok $*"
        sed 's/^/    | /' "$tmp/log" | tail -n 20
        bad=$((bad + 1))
    fi
}

names="mutex_lock mutex_trylock mutex_unlock rwmutex_rlock rwmutex_runlock once_do
    sem_acquire sem_try_acquire sem_release wg_add wg_done wg_wait"
cat >"$tmp/users.c" <<'END'
#include <weft.h>
#ifdef __cplusplus
extern "C" {
#endif
#define USER(name, type, call) int use_##name(type *x); int use_##name(type *x) { return weft_##name call; }
USER(mutex_lock, weft_mutex_t, (x))
USER(mutex_trylock, weft_mutex_t, (x))
USER(mutex_unlock, weft_mutex_t, (x))
USER(rwmutex_rlock, weft_rwmutex_t, (x))
USER(rwmutex_runlock, weft_rwmutex_t, (x))
USER(once_do, weft_once_t, (x, 0, x))
USER(sem_acquire, weft_sem_t, (x, 1))
USER(sem_try_acquire, weft_sem_t, (x, 1))
USER(sem_release, weft_sem_t, (x, 1))
USER(wg_add, weft_wg_t, (x, 1))
USER(wg_done, weft_wg_t, (x))
USER(wg_wait, weft_wg_t, (x))
#ifdef __cplusplus
}
#endif
END
# An object that is there is not compared with NULL.
printf '#include <weft.h>\nint f(void);\nint f(void) { static weft_mutex_t m; return weft_mutex_lock(&m) + weft_mutex_unlock(&m); }\n' >"$tmp/folds.c"
printf '#include <weft.h>\nint f(weft_mutex_t *m);\nint f(weft_mutex_t *m) { return weft_mutex_lock(m); }\n' >"$tmp/looks.c"

strict="-Wall -Wextra -Wpedantic -pedantic-errors -Wconversion -Wsign-conversion -Wundef -Wredundant-decls -Werror"
calls() # OBJECT: how many of the exported functions it calls
{
    local n=0 f
    nm -u "$1" >"$tmp/undefined"
    for f in $names; do if grep -qw "weft_$f" "$tmp/undefined"; then n=$((n + 1)); fi; done
    echo $n
}

one() # LANGUAGE COMPILER OPTION...
{
    local language=$1 cc=$2 want rc=0 n
    shift 2
    local flags=("-x$language" "-I$src/include" "-I$src/tests/behaviour")
    # shellcheck disable=SC2206 # a list of words
    flags+=($strict)
    if [ "$language" = c ]; then flags+=(-std=c11); else flags+=(-std=c++17); fi
    local cast=
    if [ "$language" = c++ ]; then cast=-Wold-style-cast; fi
    case " $* " in *" -O0 "* | *NO_INLINE*) want=$(wc -w <<<"$names") ;; *) want=0 ;; esac
    {
        # shellcheck disable=SC2086 # nothing, or an option
        $cc "${flags[@]}" "$@" $cast -fno-lto -c -o "$tmp/users.o" "$tmp/users.c" &&
            n=$(calls "$tmp/users.o") && echo "$n of the exported functions called, $want should be" && [ "$n" = "$want" ]
    } >"$tmp/log" 2>&1 || rc=1
    result "$cc $language $*: inline where it should be"
    for library in shared static; do
        local link=("$libs/libweft.a" -lpthread -ldl)
        if [ "$library" = shared ]; then link=("-L$libs" -lweft); fi
        [ -e "$libs/libweft.so" ] || [ "$library" = static ] || continue
        [ -e "$libs/libweft.a" ] || [ "$library" = shared ] || continue
        rc=0
        { $cc "${flags[@]}" "$@" -o "$tmp/program" "$src/tests/behaviour/fast_program.c" \
            -xnone "${link[@]}" && LD_LIBRARY_PATH=$libs timeout 60 "$tmp/program"; } >"$tmp/log" 2>&1 || rc=1
        result "$cc $language $* ($library): runs"
    done
}

for cc in gcc clang; do
    command -v $cc >/dev/null || continue
    # Some other clang has no C library.
    echo 'int main(void) { return 0; }' >"$tmp/t.c"
    $cc -o "$tmp/t" "$tmp/t.c" 2>/dev/null || continue
    for o in -O0 -O1 -Os -O2 -O3; do one c $cc $o; done
    one c $cc -O2 -DWEFT_NO_INLINE
    if [ $cc = gcc ]; then one c $cc -O2 -flto; fi
    rc=0
    { $cc -O2 "-I$src/include" -S -o "$tmp/folds.s" "$tmp/folds.c" && $cc -O2 "-I$src/include" -S -o "$tmp/looks.s" "$tmp/looks.c" &&
        grep -q -e '-22\b' "$tmp/looks.s" && ! grep -q -e '-22\b' "$tmp/folds.s"; } >"$tmp/log" 2>&1 || rc=1
    result "$cc: no look at the address of an object"
done
for cc in g++ clang++; do
    command -v $cc >/dev/null || continue
    printf '#include <string>\nint main() { return (int)std::string().size(); }\n' >"$tmp/t.cc"
    $cc -o "$tmp/t" "$tmp/t.cc" 2>/dev/null || continue
    for o in -O0 -O2; do one c++ $cc $o; done
done
if [ "$tests" = 0 ]; then
    echo "skipped: no compiler"
    exit 77
fi
echo "$tests checks, $bad wrong"
[ "$bad" = 0 ]
