/* SPDX-License-Identifier: MIT
 *
 * metrics.c: the counters as text for Prometheus.
 *
 * One table has each field's name, kind and help: the text, and the page that weft-top reads
 * (view.c), are made from it. A new counter is a line here and its sum in stats.c. The histogram
 * of waits in run queues is not one number, and has a function of its own.
 *
 * Text is put together without stdio: a coroutine's stack may be small. No lock is held.
 */
#include "metrics.h"

#include <errno.h>
#include <limits.h>

#define ROW(field, kind, help)                                                                     \
    {                                                                                              \
#field, help, METRIC_##kind, offsetof(weft_stats_t, field)                                 \
    }

const Metric metrics[] = {
    ROW(coroutines, GAUGE, "Coroutines alive, main included."),
    ROW(runnable, GAUGE, "Coroutines waiting in a run queue."),
    ROW(threads, GAUGE, "Threads that run coroutines."),
    ROW(threads_idle, GAUGE, "Threads asleep without a processor."),
    ROW(procs, GAUGE, "Processors."),
    ROW(spawned, COUNTER, "Coroutines started."),
    ROW(exited, COUNTER, "Coroutines ended."),
    ROW(switches, COUNTER, "Coroutines given a processor."),
    ROW(steals, COUNTER, "Coroutines taken from the queue of another processor."),
    ROW(netpoll_wakeups, COUNTER, "Coroutines woken by a descriptor."),
    ROW(timers, GAUGE, "Timers and sleepers pending."),
    ROW(timers_fired, COUNTER, "Timers and sleepers that were due."),
    ROW(stack_private_bytes, GAUGE, "Address space of private stacks, in bytes."),
    ROW(stacks_private, GAUGE, "Private stacks bound to coroutines or kept warm."),
    ROW(preempt_flagged, COUNTER, "Interruptions left to the code to act on."),
    ROW(preempt_handed, COUNTER, "Coroutines stopped on their threads."),
    ROW(preempt_moved, COUNTER, "Movable coroutines stopped, free to go on anywhere."),
    ROW(retaken_declared, COUNTER, "Processors taken from declared blocking calls."),
    ROW(retaken_undeclared, COUNTER, "Processors taken from undeclared blocking calls."),
    ROW(windows, GAUGE, "Windows that copied stacks share."),
    ROW(window_saves, COUNTER, "Stacks copied out of their window."),
    ROW(window_loads, COUNTER, "Stacks copied back into their window."),
    ROW(stack_copied_bytes, GAUGE, "Blocks that hold copied stacks, in bytes."),
    ROW(stack_copied_resident, GAUGE,
        "Memory of the allocator's arena for these blocks, in bytes."),
    ROW(uptime, SECONDS, "Time since the run began."),
    ROW(procs_idle, GAUGE, "Processors without anything to run."),
    ROW(threads_spinning, GAUGE, "Threads that look for work."),
    ROW(threads_held, GAUGE, "Threads whose coroutine stands still with them."),
    ROW(threads_blocked, GAUGE, "Threads in the kernel whose processor was taken."),
    ROW(fd_waiters, GAUGE, "Coroutines that wait for a descriptor."),
};
const uint32_t metrics_n = sizeof metrics / sizeof metrics[0];

/* ---- text -------------------------------------------------------------------- */

typedef struct {
    char *buf;
    size_t size, n; /* n goes on beyond size: it is what would be needed */
} Text;

static void text_char(Text *t, char c)
{
    if (t->n + 1 < t->size)
        t->buf[t->n] = c;
    t->n++;
}

static void text_str(Text *t, const char *s)
{
    while (*s != '\0')
        text_char(t, *s++);
}

static void text_number(Text *t, uint64_t v, int least)
{
    char d[20];
    int n = 0;
    do {
        d[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v != 0 || n < least);
    while (n > 0)
        text_char(t, d[--n]);
}

static void text_seconds(Text *t, uint64_t ns)
{
    text_number(t, ns / 1000000000, 1);
    text_char(t, '.');
    text_number(t, ns % 1000000000, 9);
}

static void print_name(Text *t, const Metric *x)
{
    static const char *const suffix[METRIC_KINDS] = {"_total", "", "_seconds"};
    text_str(t, "weft_");
    text_str(t, x->name);
    text_str(t, suffix[x->kind]);
}

static void print_metric(Text *t, const Metric *x, uint64_t value)
{
    text_str(t, "# HELP ");
    print_name(t, x);
    text_char(t, ' ');
    text_str(t, x->help);
    text_str(t, "\n# TYPE ");
    print_name(t, x);
    text_str(t, x->kind == METRIC_COUNTER ? " counter\n" : " gauge\n");
    print_name(t, x);
    text_char(t, ' ');
    if (x->kind == METRIC_SECONDS)
        text_seconds(t, value);
    else
        text_number(t, value, 1);
    text_char(t, '\n');
}

/* A bucket's bound is the longest wait in it. What the waits were together is not known: each
 * counts as the shortest of its bucket. */
static void print_latencies(Text *t, const weft_stats_t *s)
{
    uint64_t n = 0, sum = 0;
    for (int i = 0; i < WEFT_LATENCIES; i++)
        n += s->latency[i];
    if (n == 0)
        return; /* nobody has asked for it */
    text_str(t, "# HELP weft_latency_seconds Waits in run queues; the sum is of lower bounds.\n"
                "# TYPE weft_latency_seconds histogram\n");
    n = 0;
    for (int i = 0; i < WEFT_LATENCIES; i++) {
        n += s->latency[i];
        sum += s->latency[i] * (uint64_t)WEFT_LATENCY_FROM(i);
        text_str(t, "weft_latency_seconds_bucket{le=\"");
        if (i < WEFT_LATENCIES - 1)
            text_seconds(t, (uint64_t)WEFT_LATENCY_FROM(i + 1) - 1);
        else
            text_str(t, "+Inf");
        text_str(t, "\"} ");
        text_number(t, n, 1);
        text_char(t, '\n');
    }
    text_str(t, "weft_latency_seconds_sum ");
    text_seconds(t, sum);
    text_str(t, "\nweft_latency_seconds_count ");
    text_number(t, n, 1);
    text_char(t, '\n');
}

int weft_stats_text(char *buf, size_t size)
{
    weft_stats_t s;
    if (buf == NULL && size != 0)
        return -EINVAL;
    int rc = weft_stats(&s);
    if (rc != 0)
        return rc;
    Text t = {.buf = buf, .size = size};
    for (uint32_t i = 0; i < metrics_n; i++)
        print_metric(&t, &metrics[i], metric_of(&s, &metrics[i]));
    print_latencies(&t, &s);
    if (size > 0)
        buf[t.n < size ? t.n : size - 1] = '\0';
    return t.n <= INT_MAX ? (int)t.n : -EOVERFLOW;
}
