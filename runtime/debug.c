/* SPDX-License-Identifier: MIT
 *
 * debug.c: settings from the environment.
 *
 *   WEFT_DEBUG=key=value,...   chaos=SEED   every choice the scheduler is free in is made at random
 *                              preempt=off  no ticks
 *                              preempt=US   a tick every US microseconds; each ends the slice
 *                              tick=timer   CPU timers only, nothing of perf; tick=perf  perf's clock first
 *                              blockwarn=MS say which coroutine blocked its thread for so long, undeclared
 *                              threads=1    each coroutine runs on a thread of its own
 *                              stackshare   copied stacks are inaccessible while parked: copystack.c
 *                              windows=N    so many at most for copied stacks
 *                              deadlock     cycles of locks that coroutines wait for: cycles.c
 *                              stuck=MS     coroutines parked for longer than that, each once: census.c
 *                              sigquit      SIGQUIT prints a dump: census.c
 *                              leaks        at the end of the run, coroutines that had not ended
 *                              schedtrace=MS   a line on the scheduler so often: schedtrace.c
 *                              top[=MS]     a page for weft-top, refreshed so often: view.c
 *                              latencies    a histogram of the time spent in run queues, in weft_stats(): events.c
 *                              trace=PATH   trace the run from its start into that file: trace.c
 *                              guards=vma   guards of stacks are PROT_NONE mappings, as before Linux 6.13
 *                              guards=N     and N of them at most: the other stacks have none
 *   WEFT_PROCS, WEFT_MAXTHREADS, WEFT_SIGNAL   numbers, read by life.c through debug_env_int()
 *
 * Read again at each weft_run(), in the thread that calls it, before another
 * exists. What is wrong is said once per process and ignored: an environment
 * variable must not be able to stop a program. Not read in set-user-ID programs.
 */
#include "rt.h"
#include "view.h"

#include <errno.h>
#include <stdlib.h>

static bool debug_number(const char *s, const char *end, uint64_t *out)
{
    uint64_t v = 0;
    if (s == end)
        return false;
    for (; s < end; s++) {
        if (*s < '0' || *s > '9' || __builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
            return false;
    }
    *out = v;
    return true;
}

int64_t debug_env_int(const char *name, int64_t lo, int64_t hi)
{
    const char *s = secure_getenv(name);
    uint64_t v;
    if (s == NULL || *s == '\0')
        return lo - 1;
    if (debug_number(s, s + strlen(s), &v) && v <= INT64_MAX && (int64_t)v >= lo &&
        (int64_t)v <= hi)
        return (int64_t)v;
    static _Atomic bool said;
    if (!atomic_exchange(&said, true))
        warn("%s=%.40s ignored: not a number from %lld to %lld", name, s, (long long)lo,
             (long long)hi);
    return lo - 1;
}

static bool debug_chaos(const char *value, const char *end)
{
    uint64_t seed;
    if (!debug_number(value, end, &seed))
        return false;
    set(&sched.chaos, seed);
    return true;
}

/* off, or microseconds between two ticks. */
static bool debug_preempt(const char *value, const char *end)
{
    uint64_t us;
    if (end - value == 3 && memcmp(value, "off", 3) == 0) {
        sched.slice = 0;
        return true;
    }
    if (!debug_number(value, end, &us) || us == 0 || us > 1000000)
        return false;
    sched.slice = (int64_t)us * 1000;
    sched.storm = true;
    return true;
}

static bool debug_flag(const char *value, const char *end, bool *to)
{
    uint64_t on;
    if (!debug_number(value, end, &on) || on > 1)
        return false;
    *to = on != 0;
    return true;
}

static bool debug_ms(const char *value, const char *end, uint64_t least, uint64_t most, int64_t *ns)
{
    uint64_t ms;
    if (!debug_number(value, end, &ms) || ms < least || ms > most)
        return false;
    *ns = (int64_t)ms * 1000000;
    return true;
}

/* Where the ticks come from. */
static bool debug_tick(const char *value, const char *end)
{
    size_t len = (size_t)(end - value);
    if (len == 5 && memcmp(value, "timer", len) == 0)
        sched.tick = TICK_TIMER;
    else if (len == 4 && memcmp(value, "perf", len) == 0)
        sched.tick = TICK_PERF;
    else
        return false;
    return true;
}

static bool debug_blockwarn(const char *value, const char *end)
{
    return debug_ms(value, end, 1, 1000000, &sched.blockwarn);
}

static bool debug_threads(const char *value, const char *end)
{
    return debug_flag(value, end, &sched.threads);
}

static bool debug_windows(const char *value, const char *end)
{
    uint64_t n;
    if (!debug_number(value, end, &n) || n == 0 || n > 1000000)
        return false;
    sched.windows_most = (uint32_t)n;
    return true;
}

static bool debug_stackshare(const char *value, const char *end)
{
    return debug_flag(value, end, &sched.stackshare);
}

static bool debug_deadlock(const char *value, const char *end)
{
    bool on;
    if (!debug_flag(value, end, &on))
        return false;
    set(&sched.deadlock, on);
    return true;
}

static bool debug_leaks(const char *value, const char *end)
{
    return debug_flag(value, end, &sched.leaks);
}

static bool debug_sigquit(const char *value, const char *end)
{
    return debug_flag(value, end, &sched.sigquit);
}

static bool debug_latencies(const char *value, const char *end)
{
    return debug_flag(value, end, &sched.latencies);
}

static bool debug_trace(const char *value, const char *end)
{
    return trace_set_path(value, (size_t)(end - value));
}

static bool debug_stuck(const char *value, const char *end)
{
    return debug_ms(value, end, 1, 1000000000, &sched.stuck);
}

static bool debug_schedtrace(const char *value, const char *end)
{
    return debug_ms(value, end, 0, 1000000, &sched.schedtrace);
}

/* The key alone: as often as a screen wants it. */
static bool debug_top(const char *value, const char *end)
{
    uint64_t ms;
    if (!debug_number(value, end, &ms) || (ms > 1 && ms < 10) || ms > 10000)
        return false;
    sched.top = (int64_t)(ms == 1 ? TOP_MS : ms) * 1000000;
    return true;
}

/* vma, or the most there may be. */
static bool debug_guards(const char *value, const char *end)
{
    uint64_t n = 0;
    if (!(end - value == 3 && memcmp(value, "vma", 3) == 0) &&
        (!debug_number(value, end, &n) || n == 0 || n > INT32_MAX))
        return false;
    sched.guards_max = (long)n;
    sys_guard_plain(true);
    return true;
}

static const struct {
    const char *key;
    bool (*parse)(const char *value, const char *end);
} debug_keys[] = {
    {"blockwarn", debug_blockwarn}, {"chaos", debug_chaos},
    {"guards", debug_guards},       {"deadlock", debug_deadlock},
    {"leaks", debug_leaks},         {"latencies", debug_latencies},
    {"preempt", debug_preempt},     {"schedtrace", debug_schedtrace},
    {"sigquit", debug_sigquit},     {"stackshare", debug_stackshare},
    {"stuck", debug_stuck},         {"threads", debug_threads},
    {"tick", debug_tick},           {"top", debug_top},
    {"trace", debug_trace},         {"windows", debug_windows},
};

/* One key=value of [s, end); a key alone means 1. */
static void debug_set(const char *s, const char *end)
{
    const char *eq = memchr(s, '=', (size_t)(end - s));
    size_t len = (size_t)((eq != NULL ? eq : end) - s);
    const char *value = eq != NULL ? eq + 1 : "1", *value_end = eq != NULL ? end : value + 1;
    for (size_t i = 0; i < sizeof(debug_keys) / sizeof(debug_keys[0]); i++) {
        if (strlen(debug_keys[i].key) == len && memcmp(debug_keys[i].key, s, len) == 0 &&
            debug_keys[i].parse(value, value_end))
            return;
    }
    static _Atomic bool said;
    if (!atomic_exchange(&said, true))
        warn("WEFT_DEBUG: \"%.*s\" ignored", (int)(end - s < 60 ? end - s : 60), s);
}

void debug_init(void)
{
    set(&sched.chaos, 0);
    sched.slice = -1;
    sched.storm = sched.threads = false;
    sched.tick = TICK_ANY;
    sched.blockwarn = 0;
    sched.windows_most = 0;
    sched.stackshare = sched.leaks = sched.sigquit = sched.latencies = false;
    trace_set_path("", 0);
    set(&sched.deadlock, false);
    sched.stuck = 0;
    sched.schedtrace = sched.top = 0;
    sched.guards_max = 0;
    sys_guard_plain(false);
    const char *s = secure_getenv("WEFT_DEBUG");
    while (s != NULL && *s != '\0') {
        const char *end = s + strcspn(s, ",");
        if (end > s)
            debug_set(s, end);
        s = *end == ',' ? end + 1 : end;
    }
}
