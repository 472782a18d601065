#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# top.sh: weft-top beside a program: its plain text says what the program's own counters say, its
# errors what is wrong, and its screen, in tmux, changes with the keys.
#
# usage: top.sh     (in the build directory)
set -u

top=$PWD/tools/weft-top quiet=$PWD/tests/debug/quiet
[ -x "$top" ] || { echo "top.sh: weft-top was not built (no ncurses): skipped"; exit 77; }
[ -x "$quiet" ] || { echo "top.sh: no program $quiet"; exit 1; }
dir=$(mktemp -d) || exit 1
export LC_ALL=C
pids=() socket=weft-top-$$

cleanup()
{
    local p
    for p in "${pids[@]}"; do { kill -KILL "$p" && wait "$p"; } 2>/dev/null; done
    command -v tmux >/dev/null && tmux -L "$socket" kill-server 2>/dev/null
    for p in "${pids[@]}"; do rm -f "/dev/shm/weft.$p" "/tmp/weft.$p"; done
    rm -rf "$dir"
}
trap cleanup EXIT

fail() # MESSAGE [FILE]
{
    echo "top.sh: FAILED: $1"
    [ $# -lt 2 ] || sed 's/^/    /' "$2"
    exit 1
}

# Start the program; its pid is in $pid, fd 7 its input. Ready when weft-top counts all of its coroutines.
start() # NAME HOGS [SETTING]
{
    mkfifo "$dir/$1.in"
    WEFT_DEBUG=${3-top=50} WEFT_PROCS=2 "$quiet" "$2" <"$dir/$1.in" >"$dir/$1.out" 2>"$dir/$1.err" &
    pid=$!
    pids+=("$pid")
    exec 7>"$dir/$1.in"
}

ready() # HOGS
{
    for _ in $(seq 200); do
        "$top" -b -n 1 "$pid" >"$dir/ready" 2>/dev/null &&
            grep -qx "counter coroutines $((43 + $1))" "$dir/ready" &&
            grep -qx 'wait 30 chan receive' "$dir/ready" && grep -qx 'wait 7 sleep' "$dir/ready" &&
            grep -qx 'wait 5 sync.Mutex.Lock' "$dir/ready" && grep -qx 'wait 1 IO wait' "$dir/ready" && return
        sleep 0.1
    done
    fail "weft-top never saw the program as it is" "$dir/ready"
}

ask() # NAME: the program's counters to $dir/stats
{
    local before
    before=$(grep -c '^end$' "$dir/$1.out")
    echo >&7
    for _ in $(seq 200); do
        [ "$(grep -c '^end$' "$dir/$1.out")" -gt "$before" ] && break
        sleep 0.05
    done
    [ "$(grep -c '^end$' "$dir/$1.out")" -gt "$before" ] || fail "the program does not answer"
    awk '/^weft_/ { sub(/^weft_/, ""); sub(/_total /, " "); sub(/_seconds /, " "); all = all $0 "\n" }
         /^end$/ { last = all; all = "" } END { printf "%s", last }' "$dir/$1.out" >"$dir/stats"
}

# ---- plain text: what only grows lies between a reading before and one after, the rest is the same

start quiet 0
ready 0
"$top" -b -n 1 "$pid" | sed -n 's/^counter //p' >"$dir/before"
ask quiet
sleep 0.5 # some refreshes
"$top" -b -n 1 "$pid" | sed -n 's/^counter //p' >"$dir/after"
[ "$(wc -l <"$dir/stats")" -ge 30 ] || fail "the program has few counters" "$dir/stats"
awk '
    FILENAME ~ /before$/ { before[$1] = $2; next }
    FILENAME ~ /stats$/ { stats[$1] = $2; next }
    { after[$1] = $2; n++ }
    END {
        for (x in stats) {
            if (!(x in before) || !(x in after)) { print x " is not shown"; bad = 1; continue }
            if (x == "stack_copied_resident") continue # the monitor does not ask the allocator
            if (x ~ /^(threads|threads_idle|threads_spinning|procs_idle|fd_waiters|runnable)$/) continue # of the moment
            lo = before[x]; hi = after[x]
            if (stats[x] < lo - 0.001 || stats[x] > hi + 0.001) {
                print x ": " stats[x] " is not from " lo " to " hi; bad = 1
            }
            if (x ~ /^(coroutines|procs|spawned|exited|timers|stacks_private|stack_private_bytes)$/ && lo != hi) {
                print x " changed from " lo " to " hi; bad = 1
            }
            if (x == "switches" && hi - lo > 20) { print "switches: " lo " to " hi; bad = 1 }
        }
        for (x in after) if (!(x in stats)) { print x " is no counter"; bad = 1 }
        exit bad
    }' "$dir/before" "$dir/stats" "$dir/after" >"$dir/differs" || fail "the counters differ" "$dir/differs"
"$top" -b -n 1 >"$dir/only" 2>&1 || fail "it does not find the only program" "$dir/only"
head -n 1 "$dir/only" | grep -Eq "^weft-top $pid up [0-9.]+ refresh 0.050 counted [0-9.]+ quiet$" ||
    fail "the first line" "$dir/only"
grep -qx 'name [0-9.]* [0-9.]* 30 receiver' "$dir/only" || fail "no receivers" "$dir/only"
grep -qx 'state 43 waiting' "$dir/only" || fail "not 43 wait" "$dir/only"
bad=$(grep -Evc '^(weft-top|counter|state|wait|proc|name) ' "$dir/only")
[ "$bad" = 0 ] || fail "$bad lines that no script knows" "$dir/only"

# ---- what is wrong is said

want_error() # STATUS TEXT ARG...
{
    local status=$1 text=$2
    shift 2
    "$top" "$@" >"$dir/out" 2>"$dir/error" </dev/null
    local rc=$?
    [ "$rc" = "$status" ] || fail "weft-top $* ends with $rc, not $status" "$dir/error"
    grep -q -e "$text" "$dir/error" || fail "weft-top $* does not say \"$text\"" "$dir/error"
}
sleep 300 7>&- &
other=$!
pids+=("$other")
want_error 1 "publishes no page: start it with WEFT_DEBUG=top" -b "$other"
printf 'weft-top' >"/tmp/weft.$other" # somebody's file, no page
want_error 1 "publishes no page" -b "$other"
rm -f "/tmp/weft.$other"
cp "/dev/shm/weft.$pid" "$dir/page" 2>/dev/null || cp "/tmp/weft.$pid" "$dir/page"
cp "$dir/page" "/tmp/weft.$other" # of another process
want_error 1 "publishes no page" -b "$other"
rm -f "/tmp/weft.$other"
want_error 1 "there is no process 4194303" -b 4194303
want_error 2 "usage" -b x
want_error 2 "usage" -b -n 0 "$pid"
want_error 2 "usage" -b -d nan "$pid"
want_error 2 "usage" -b 1 2
TERM=none want_error 1 "no terminal" "$pid"

# ---- the run ends; the process ends

"$top" -b -d 0.1 "$pid" >"$dir/long" 2>"$dir/error" 7>&- &
watcher=$!
for _ in $(seq 200); do
    [ "$(grep -c '^weft-top ' "$dir/long")" -ge 2 ] && break
    sleep 0.1
done
exec 7>&- # the end of its input
wait "$watcher" || fail "weft-top ended with $? when the run did" "$dir/error"
grep -Eq "has ended its run|is gone" "$dir/error" || fail "it does not say that the run has ended" "$dir/error"
[ "$(grep -c '^weft-top ' "$dir/long")" -ge 2 ] || fail "not several reports" "$dir/long"
wait "$pid" || fail "the program failed" "$dir/quiet.err"
[ ! -e "/dev/shm/weft.$pid" ] && [ ! -e "/tmp/weft.$pid" ] || fail "its page is still there"

start killed 0
ready 0
{ kill -KILL "$pid" && wait "$pid"; } 2>/dev/null
exec 7>&-
want_error 1 "there is no process $pid" -b "$pid"

start off 0 ""
want_error 1 "publishes no page" -b "$pid"
exec 7>&-
wait "$pid"

# ---- the screen

command -v tmux >/dev/null || { echo "top.sh: no tmux: the screen was not looked at"; exit 77; }
if grep -qsE 'define WEFT_TSAN 1' "${WEFT_BUILDDIR:-.}/config.h"; then
    echo "top.sh: nobody is interrupted under TSan: a screen with hogs was not looked at"
    exit 77
fi
start hogs 3
ready 3
tmux -L "$socket" -f /dev/null new-session -d -x 100 -y 30 "$top -d 0.2 $pid 2>$dir/screen.err; echo status \$?; sleep 60" 7>&- ||
    fail "tmux does not start"

screen() # until a line of the screen matches
{
    for _ in $(seq 100); do
        tmux -L "$socket" capture-pane -p >"$dir/screen"
        grep -Eq -e "$1" "$dir/screen" && return
        sleep 0.1
    done
    fail "nothing on the screen matches: $1" "$dir/screen"
}
keys() { tmux -L "$socket" send-keys "$1"; }
first_name() { awk 'seen { print $4; exit } /TIME%/ { seen = 1 }' "$dir/screen"; }

screen "process $pid \(quiet\), up [0-9.]+ s"
screen '^Coroutines .*44 waiting|^Coroutines .*43 waiting'
screen '^Waiting .*30 chan receive.*5 sync.Mutex.Lock'
screen '^Threads +[0-9]+, [0-9]+ idle'
screen '^Preempted +[0-9]+ handed over'
screen '^Stacks +[0-9]+ private'
screen '^ +[01]  running .*#[0-9]+ quiet_hog' # a function's name, as it has no other
screen 'by time'
screen '^ +(9[0-9]|100)\.[0-9] +[0-9.]+ +3  quiet_hog'
keys c
screen 'by count'
screen '^ .* 30  receiver'
[ "$(first_name)" = receiver ] || fail "c does not sort by count" "$dir/screen"
keys n
screen 'by name'
[ "$(first_name)" = entry ] || fail "n does not sort by name" "$dir/screen"
keys t
screen 'by time'
[ "$(first_name)" = quiet_hog ] || fail "t does not sort by time" "$dir/screen"
keys h
screen 'sort names by time on a processor'
keys h
screen '^Coroutines'
keys Space
screen '\[paused\]'
keys Space
tmux -L "$socket" resize-window -x 40 -y 8
screen 'terminal too small'
tmux -L "$socket" resize-window -x 90 -y 25
screen '^Coroutines'
grep -q 'too small' "$dir/screen" && fail "it is not drawn anew" "$dir/screen"
keys q
screen '^status 0'
[ ! -s "$dir/screen.err" ] || fail "it complains" "$dir/screen.err"

tmux -L "$socket" kill-server
socket+=-again # that server may still be about to go
tmux -L "$socket" -f /dev/null new-session -d -x 100 -y 30 "$top -d 0.2 $pid; echo status \$?; sleep 60" 7>&- ||
    fail "tmux does not start again"
screen '^Coroutines'
exec 7>&-
screen "weft-top: process $pid \(quiet\) (has ended its run|is gone)"
wait "$pid"
echo "top.sh: counters, errors, the end, the screen: as they should be"
