/* SPDX-License-Identifier: MIT
 *
 * schedtrace.c: WEFT_DEBUG=schedtrace=MS: a line on the scheduler every MS milliseconds, as Go's
 * GODEBUG=schedtrace writes it:
 *
 *   SCHED 1004ms: gomaxprocs=2 idleprocs=0 threads=5 spinningthreads=0 needspinning=0 idlethreads=1 runqueue=1 [0 3]
 *
 * Times are of the run. threads are all of weft's, the monitor and the like included; runqueue is what is queued
 * for no P in particular, hogs included; in brackets the queue of each P.
 *
 * The monitor writes it: numbers are taken under sched.lock, the line is put together and written without. It
 * must not be blocked by who reads: a line that standard error does not take at once is left out, and a longer
 * one than a pipe takes whole is cut. At the longest of the monitor's waits, 10 ms, the line is late.
 */
#include "view.h"

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum { LINE = PIPE_BUF };

/* The monitor's. */
static struct {
    int64_t due;
    uint32_t procs, idle, threads, spinning, idle_threads, queued;
    bool need_spin;
    uint32_t np;
    uint32_t queue[P_MAX];
    char line[LINE];
} trace;

static void take(void)
{
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    trace.procs = get(&sched.procs);
    trace.idle = get(&sched.idle_p);
    trace.threads = sched.nm + sched.system_threads;
    trace.spinning = get(&sched.spinning);
    trace.need_spin = get(&sched.need_spin) != 0;
    trace.idle_threads = sched.n_idle_m;
    trace.queued = get(&sched.runq_n) + get(&sched.hogs_n);
    trace.np = trace.procs < P_MAX ? trace.procs : P_MAX;
    for (uint32_t i = 0; i < trace.np; i++)
        trace.queue[i] = runq_len(sched.p[i]);
    lock_release(&sched.lock);
}

static size_t put_line(int64_t now)
{
    char *s = trace.line;
    size_t n = (size_t)snprintf(s, LINE,
                                "SCHED %lldms: gomaxprocs=%u idleprocs=%u threads=%u "
                                "spinningthreads=%u needspinning=%d idlethreads=%u runqueue=%u [",
                                (long long)((now - sched.began) / 1000000), trace.procs, trace.idle,
                                trace.threads, trace.spinning, trace.need_spin, trace.idle_threads,
                                trace.queued);
    for (uint32_t i = 0; i < trace.np && n + 16 < LINE; i++)
        n += (size_t)snprintf(s + n, LINE - n, i == 0 ? "%u" : " %u", trace.queue[i]);
    memcpy(s + n, "]\n", 2);
    return n + 2;
}

void schedtrace_start(void)
{
    trace.due = sched.began;
}

int64_t schedtrace_turn(int64_t now)
{
    if (sched.schedtrace == 0)
        return INT64_MAX;
    if (now < trace.due)
        return trace.due;
    trace.due += sched.schedtrace;
    if (trace.due <= now)
        trace.due = now + sched.schedtrace;
    take();
    size_t n = put_line(now);
    struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&fd, 1, 0) == 1 && fd.revents & POLLOUT)
        (void)!write(STDERR_FILENO, trace.line, n);
    return trace.due;
}
