#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# trace.sh: a program is traced, weft-trace makes JSON and a summary of it. In the JSON every begin has its end, what runs
# on a processor does so one after the other, names are there; the summary's numbers are what the program did.
set -u

build=${WEFT_BUILDDIR:-.}
traced=$build/tests/debug/traced tool=$build/tools/weft-trace/weft-trace
fail()
{
    echo "trace.sh: $*"
    exit 1
}
[ -x "$tool" ] || { echo "trace.sh: weft-trace was not built (no jansson): skipped"; exit 77; }
command -v python3 >/dev/null || { echo "trace.sh: no python3: skipped"; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

cpu=$(WEFT_DEBUG=trace=$dir/trace "$traced") || fail "traced failed"
"$tool" -s -j "$dir/json" "$dir/trace" >"$dir/summary" || fail "weft-trace failed"

python3 - "$dir/json" "$dir/summary" "$cpu" <<'PY' || { cat "$dir/summary"; exit 1; }
import collections, json, sys

def fail(*what):
    print('trace.sh:', *what)
    sys.exit(1)

doc = json.load(open(sys.argv[1]))
events, cpu = doc['traceEvents'], float(sys.argv[3])
if not doc['otherData']['whole'] or doc['otherData']['lost'] != 0:
    fail('not whole', doc['otherData'])

# Every begin has its end: within a coroutine they are stacked, by time; of the same time in the order of the file.
stacks, alive = collections.defaultdict(list), {}
for e in sorted((e for e in events if e['ph'] in 'be'), key=lambda e: e['ts']):
    stack = stacks[e['id']]
    if e['ph'] == 'b':
        stack.append(e)
        if len(stack) > 2 or (len(stack) == 1 and e['id'] in alive):
            fail('begins within another', e, stack)
        alive[e['id']] = alive.get(e['id']) or e['name']
    elif not stack or stack.pop()['name'] != e['name']:
        fail('ends what has not begun', e, stack)
for id, stack in stacks.items():
    if stack:
        fail('does not end', stack)

# One after the other on a processor.
running = sorted((e for e in events if e['ph'] == 'X'), key=lambda e: (e['tid'], e['ts']))
for a, b in zip(running, running[1:]):
    if a['tid'] == b['tid'] and a['ts'] + a['dur'] > b['ts'] + 0.001:
        fail('two at once', a, b)
names = collections.Counter(alive.values())
want = {'main': 1, 'sleeper': 1, 'busy': 3, 'sender': 1, 'receiver': 1}
if names != want:
    fail('names', names)
if not {e['tid'] for e in running} <= {0, 1, 2, 3}: # two processors; others may be lent
    fail('processors', {e['tid'] for e in running})
if {e['name'] for e in running} != set(want):
    fail('who has run', {e['name'] for e in running})

# The summary.
text = open(sys.argv[2]).read().split('\n')
rows = {}
for line in text:
    w = line.split()
    if len(w) >= 6 and w[5] in want:
        rows[w[5]] = [float(x) for x in w[:5]]
if set(rows) != set(want):
    fail('rows', rows)
if not 95 <= rows['sleeper'][2]:
    fail('a sleep of 100 ms', rows['sleeper'])
# What they have computed is no more than they ran; how much more depends on who else has this machine.
if not 190 <= rows['busy'][0] or rows['busy'][0] < 0.8 * (cpu - 20):
    fail('computed for', cpu, 'ms', rows['busy'])
if rows['sleeper'][0] > rows['busy'][0] / 2:
    fail('asleep, and ran', rows['sleeper'])
if rows['busy'][4] != 3 or rows['sender'][4] != 1:
    fail('numbers', rows)
if not any('scheduling latency, us: p50' in line for line in text):
    fail('no latencies')
if not any(line.endswith('  sleep') for line in text):
    fail('no reasons')
print('trace.sh: %d events, busy ran %.0f of %.0f ms of CPU' % (len(events), rows['busy'][0], cpu))
PY

# What is wrong is said.
head -c 4000 "$dir/trace" >"$dir/cut" && "$tool" "$dir/cut" | grep -q "cut short" || fail "a file that was cut short"
echo "not a trace, but long enough to be one" >"$dir/bad"
"$tool" "$dir/bad" 2>/dev/null && fail "took what is no trace"
"$tool" "$dir/nothing" 2>/dev/null && fail "took what is not there"
if [ -w /dev/full ]; then
    "$tool" -j /dev/full "$dir/trace" 2>/dev/null && fail "wrote to a full device"
fi
exit 0
