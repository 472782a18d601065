#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# check_typed_not.sh: what <weft/typed.h> is there to refuse does not compile, with the
# build's compiler, gcc, clang, g++ and clang++.
#
# Each snippet has a twin that differs in what is wrong and nothing else. The twin must
# compile with every warning an error. The snippet must fail with no warning asked for, and
# at its own line. So neither can a snippet fail for another reason, nor a header pass that refuses
# everything.
set -euo pipefail

src=${WEFT_SRCDIR:-.} build=${WEFT_BUILDDIR:-.}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
tests=0 bad=0

cat >"$tmp/before" <<'END'
#include <weft/typed.h>
struct job { int id; char name[12]; };
struct jab { int id; char name[12]; };
typedef int quad[4];
struct quads { int of[4]; };
struct most { char bytes[65535]; };
struct more { char bytes[65536]; };
typedef int (*operation)(int);
WEFT_CHAN(ints, int);
WEFT_CHAN(counts, int);
WEFT_CHAN(jobs, struct job);
WEFT_CHAN(words, const char *);
WEFT_CHAN(texts, char *);
struct all { ints_t i; ints_tx_t itx; ints_rx_t irx; counts_t n; jobs_t j; words_t w; texts_t x; };
int f(struct all *a);
END
cat >"$tmp/head" <<'END'
int f(struct all *a) { int v = 0; double d = 0; unsigned u = 0; struct job job = {0, ""}; struct jab jab = {0, ""};
const char *word = ""; char text_[2] = "", *text = text_; const int fixed = 0; weft_case_t k; memset(&k, 0, sizeof k);
(void)a; (void)v; (void)d; (void)u; (void)job; (void)jab; (void)word; (void)text; (void)fixed; (void)k;
END
printf 'return 0; }\n' >"$tmp/tail"

compile() # FLAG...: $tmp/t.c or t.cc, by compiler $cc
{
    local words
    read -r -a words <<<"$cc" # a compiler may carry options
    "${words[@]}" -std="$std" -I"$src/include" -fsyntax-only "$@" "$tmp/t.$suffix" 2>"$tmp/errors"
}

write() # WHERE TEXT: the source around TEXT, whose line is snippet:1
{
    {
        cat "$tmp/before"
        if [ "$1" = function ]; then cat "$tmp/head"; fi
        printf '#line 1 "snippet"\n%s\n#line 1 "rest"\n' "$2"
        if [ "$1" = function ]; then cat "$tmp/tail"; fi
    } >"$tmp/t.$suffix"
}

complain() # WHAT
{
    echo "not ok $cc -std=$std: $1: $2"
    sed 's/^/    | /' "$tmp/errors" | head -n 20
    bad=$((bad + 1))
}

pair() # WHERE KIND NAME SNIPPET TWIN
{
    local where=$1 kind=$2 name=$3 flags=() here='^snippet:1:.*error'
    # An error inside of the macro may be said at its line there, with a note.
    if [ "$where" = file ]; then here='^snippet:1:'; fi
    tests=$((tests + 1))
    write "$where" "$5"
    if ! compile "${strict[@]}"; then
        complain "$name" "the twin does not compile: $5"
        return
    fi
    # In C the types of pointers are a matter of warnings that are always on.
    if [ "$kind" = pointer ]; then flags=(-Werror); fi
    write "$where" "$4"
    if compile "${flags[@]}"; then
        complain "$name" "compiles: $4"
    elif ! grep -q "$here" "$tmp/errors" || grep -qE '^(rest|[^ ]*/t\.).*error' "$tmp/errors"; then
        complain "$name" "fails elsewhere: $4"
    else
        echo "ok $cc -std=$std: $name"
    fi
}

all_pairs()
{
    # The wrong end.
    pair function type "send on a receive-only end" 'ints_send(a->irx, 1);' 'ints_send(a->itx, 1);'
    pair function type "try_send on it" 'ints_try_send(a->irx, 1);' 'ints_try_send(a->itx, 1);'
    pair function type "send_until on it" 'ints_send_until(a->irx, 1, 0);' 'ints_send_until(a->itx, 1, 0);'
    pair function type "close through it" 'ints_close(a->irx);' 'ints_close(a->itx);'
    pair function type "a send case of it" 'k = ints_case_send(a->irx, &v);' 'k = ints_case_send(a->itx, &v);'
    pair function type "recv on a send-only end" 'ints_recv(a->itx, &v);' 'ints_recv(a->irx, &v);'
    pair function type "try_recv on it" 'ints_try_recv(a->itx, &v);' 'ints_try_recv(a->irx, &v);'
    pair function type "recv_until on it" 'ints_recv_until(a->itx, &v, 0);' 'ints_recv_until(a->irx, &v, 0);'
    pair function type "a receive case of it" 'k = ints_case_recv(a->itx, &v);' 'k = ints_case_recv(a->irx, &v);'
    pair function type "recv through the sending end of both" 'ints_recv(a->i.tx, &v);' 'ints_recv(a->i.rx, &v);'
    pair function type "send on both ends at once" 'ints_send(a->i, 1);' 'ints_send(a->i.tx, 1);'

    # No way from an end to the other, or back to both.
    pair function type "rx to tx" 'a->itx = a->irx;' 'a->irx = a->irx;'
    pair function type "tx to rx" 'a->irx = a->itx;' 'a->itx = a->itx;'
    pair function type "the sending end of rx" 'a->itx = a->irx.tx;' 'a->itx = a->i.tx;'
    pair function type "the receiving end of tx" 'a->irx = a->itx.rx;' 'a->irx = a->i.rx;'
    pair function type "rx to both" 'a->i = a->irx;' 'a->irx = a->i.rx;'
    pair function type "tx to both" 'a->i = a->itx;' 'a->itx = a->i.tx;'
    pair function type "an end as both, in ref" 'ints_unref(a->itx);' 'ints_unref(a->i);'
    pair function type "an initialiser" 'ints_tx_t out = a->irx; (void)out;' 'ints_tx_t out = a->itx; (void)out;'

    # Another channel's, though its elements are the same.
    pair function type "another channel's end" 'ints_send(a->n.tx, 1);' 'counts_send(a->n.tx, 1);'
    pair function type "another channel" 'a->i = a->n;' 'a->n = a->n;'
    pair function type "a channel without a type" 'ints_send(weft_chan_make(4, 0), 1);' 'ints_send(ints_make(0).tx, 1);'
    pair function type "an end where none is meant" 'weft_send(a->itx, &v);' 'weft_send(a->itx.chan, &v);'

    # The wrong element.
    pair function type "a struct where a number is due" 'ints_send(a->itx, job);' 'ints_send(a->itx, job.id);'
    pair function type "a number for a struct" 'jobs_send(a->j.tx, 1);' 'jobs_send(a->j.tx, job);'
    pair function type "another struct" 'jobs_send(a->j.tx, jab);' 'jobs_send(a->j.tx, job);'
    pair function type "a pointer to a struct for a struct" 'jobs_send(a->j.tx, &job);' 'jobs_send(a->j.tx, job);'
    pair function pointer "a number for a pointer" 'words_send(a->w.tx, v);' 'words_send(a->w.tx, word);'
    pair function pointer "a pointer for a number" 'ints_send(a->itx, &v);' 'ints_send(a->itx, v);'
    pair function pointer "a const string for a string" 'texts_send(a->x.tx, word);' 'texts_send(a->x.tx, text);'
    pair function pointer "receive into a double" 'ints_recv(a->irx, &d);' 'ints_recv(a->irx, &v);'
    pair function pointer "try_recv into a double" 'ints_try_recv(a->irx, &d);' 'ints_try_recv(a->irx, &v);'
    pair function pointer "recv_until into a double" 'ints_recv_until(a->irx, &d, 0);' 'ints_recv_until(a->irx, &v, 0);'
    pair function pointer "receive into a const" 'ints_recv(a->irx, &fixed);' 'ints_recv(a->irx, &v);'
    pair function pointer "receive into another struct" 'jobs_recv(a->j.rx, &jab);' 'jobs_recv(a->j.rx, &job);'
    pair function pointer "receive a const string as a string" 'words_recv(a->w.rx, &text);' 'words_recv(a->w.rx, &word);'
    pair function pointer "a receive case into a double" 'k = ints_case_recv(a->irx, &d);' 'k = ints_case_recv(a->irx, &v);'
    pair function pointer "a send case of a double" 'k = ints_case_send(a->itx, &d);' 'k = ints_case_send(a->itx, &fixed);'
    pair function pointer "a send case of another struct" 'k = jobs_case_send(a->j.tx, &jab);' 'k = jobs_case_send(a->j.tx, &job);'
    pair function type "receive into a value" 'jobs_recv(a->j.rx, job);' 'jobs_recv(a->j.rx, &job);'

    # What WEFT_CHAN does not take.
    pair file type "an array" 'WEFT_CHAN(fours, quad);' 'WEFT_CHAN(fours, struct quads);'
    pair file type "more than 65535 bytes" 'WEFT_CHAN(big, struct more);' 'WEFT_CHAN(big, struct most);'
    pair file type "a struct that is not defined" 'struct none; WEFT_CHAN(nones, struct none);' 'struct none { int i; }; WEFT_CHAN(nones, struct none);'
    pair file type "a name twice" 'WEFT_CHAN(ints, long);' 'WEFT_CHAN(longs, long);'
    if [ "$suffix" = cc ]; then
        pair file type "what cannot be copied byte by byte" \
            'struct own { int *p; ~own(); }; WEFT_CHAN(owns, own);' 'struct own { int *p; }; WEFT_CHAN(owns, own);'
        pair file type "a reference" 'WEFT_CHAN(refs, int &);' 'WEFT_CHAN(refs, int *);'
    fi
}

warnings=(-Wall -Wextra -Wpedantic -pedantic-errors -Wshadow -Wconversion -Wcast-qual -Wundef -Werror)
in_c()
{
    suffix=c strict=("${warnings[@]}" -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wwrite-strings)
    for std in c11 gnu17; do all_pairs; done
}
in_cxx()
{
    suffix=cc strict=("${warnings[@]}" -Wold-style-cast -Wzero-as-null-pointer-constant)
    std=c++17
    printf '#include <type_traits>\n' >"$tmp/t.cc" # what is not there is no fault of ours
    if compile; then
        all_pairs
    else
        echo "left out: $cc does not work: $(tail -n 1 "$tmp/errors")"
    fi
}

own=$("$build/libtool" --config 2>/dev/null | sed -n 's/^CC="\(.*\)"$/\1/p' || true)
own=${own:-gcc}
cc=$own
in_c
for cc in gcc clang; do
    if [ "$cc" != "$own" ] && command -v $cc >/dev/null; then in_c; fi
done
for cc in g++ clang++; do
    if command -v $cc >/dev/null; then in_cxx; fi
done
echo "$tests pairs, $bad wrong"
[ "$bad" = 0 ] && [ "$tests" -gt 40 ]
