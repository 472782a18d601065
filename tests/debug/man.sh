#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# man.sh: the manual pages: each lints; each public function is named by one page of section 3, shown there in the
# synopsis as the header has it, with its attributes; no page names what the header has not; each key of WEFT_DEBUG
# is in weft_debug(7); and what refers to one of our pages refers to one that exists.
#
# usage: man.sh     (WEFT_SRCDIR: the sources; default: beside this file)
set -u

cd "${WEFT_SRCDIR:-$(dirname "$0")/../..}" || exit 1
bad=0
fail()
{
    echo "man.sh: $*"
    bad=1
}

# ---- they lint ------------------------------------------------------------------
if command -v mandoc >/dev/null; then
    for page in man/*.[1-8]; do
        out=$(mandoc -T lint -W warning "$page" 2>&1 | grep -v 'outdated mandoc.db')
        [ -z "$out" ] || fail "$out"
    done
    linted="linted"
else
    linted="not linted: no mandoc"
fi

# ---- functions --------------------------------------------------------------------
# The header's prototypes, one a line: "name type(arguments)", without blanks. The slow paths of inline functions are
# nobody's to call.
prototypes()
{
    awk '
        { gsub(/\/\*[^*]*\*\//, "") }
        /\/\*/ { comment = 1; sub(/\/\*.*/, "") }
        /\*\// { comment = 0; sub(/.*\*\//, "") }
        comment || /^#/ { next }
        /^WEFT_API / { text = ""; on = 1 }
        on { text = text " " $0 }
        on && /;/ { print text; on = 0 }' include/weft.h |
        sed -E 's/WEFT_API//; s/__attribute__\(\([^)]*\)\)//; s/;.*//
            s/^(.*[ *])(weft_[a-z0-9_]*)(\(.*)$/\2 \1\3/' |
        awk '$1 !~ /^weft_slow_/ { name = $1; $1 = ""; gsub(/[ \t]/, ""); print name, $0 }' | sort
}

# The pages' synopses in the same form.
synopses()
{
    awk '
        function put(name, args) { text = type "(" args ")"; gsub(/[ \t"]/, "", text); print name, text }
        function rest(s,   n) { sub(/^\.[A-Z][a-z] +/, "", s); return s }
        /^\.Sh/ { on = $2 == "SYNOPSIS" }
        !on { next }
        $1 == ".Ft" { type = rest($0) }
        $1 == ".Fo" { name = $2; args = "" }
        $1 == ".Fa" { args = args (args == "" ? "" : ",") rest($0) }
        $1 == ".Fc" { put(name, args) }
        $1 == ".Fn" { name = $2; args = rest($0); sub(/^[^ ]+ */, "", args); gsub(/" "/, ",", args); put(name, args) }' \
        man/*.3 | sort
}

diff <(prototypes) <(synopses) | sed -n 's/^</man.sh: no page has: /p; s/^>/man.sh: the header has not: /p' | grep . && bad=1
n=$(prototypes | wc -l)
[ "$n" -gt 100 ] || fail "only $n functions found in the header"

# Each name once, in NAME, and a row of ATTRIBUTES with three answers for it.
names()
{
    awk '/^\.Sh/ { name = $2 == "NAME" } name && $1 == ".Nm" { print $2 }' "$1"
}
for page in man/*.3; do
    own=${page#man/}
    own=${own%.3}
    names "$page" | grep -qx "$own" || fail "$page: does not name itself"
    for f in $(names "$page"); do
        [ "$f" != "$own" ] || prototypes | grep -q "^$f " || continue
        grep -qE "^\.It Fn $f Ta [^ ].* Ta [^ ].* Ta [^ ].*$" "$page" || fail "$page: no attributes of $f"
    done
done
prototypes | cut -d' ' -f1 | while read -r f; do
    [ "$(for page in man/*.3; do names "$page"; done | grep -cx "$f")" = 1 ] || echo "$f"
done | grep . && fail "are not named by one page"

# ---- keys, references -----------------------------------------------------------------
keys=$(sed -n '/^} debug_keys/,/^};/p' runtime/debug.c | grep -oE '\{"[a-z]+"' | tr -d '{"')
[ -n "$keys" ] || fail "no keys found in debug.c"
for key in $keys; do
    grep -qE "^\.It Cm $key( |$)" man/weft_debug.7 || fail "weft_debug(7) has nothing of $key"
done
grep -hoE '^\.Xr weft[a-z_-]* [0-9]|, Xr weft[a-z_-]* [0-9]' man/* | sed 's/.*Xr //' | sort -u |
    while read -r name section; do
        [ -e "man/$name.$section" ] || for page in man/*."$section"; do names "$page"; done | grep -qx "$name" ||
            echo "man.sh: no such page: $name($section)"
    done | grep . && bad=1

[ "$bad" = 0 ] && echo "man.sh: $(find man -type f | wc -l) pages, $n functions, $linted"
exit "$bad"
