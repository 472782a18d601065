/* SPDX-License-Identifier: MIT
 *
 * parked.c: what millions of parked coroutines cost. The same in Go: peers/parked.go;
 * same arguments, same lines.
 *
 * usage: parked N [copied|private] [close|send] [PROCS]      (private, close, 1 processor)
 *
 * N coroutines fill 48 bytes of their frame with their number and park in a receive on
 * one channel. Then the channel is closed, or N elements are sent. Each looks whether
 * its frame is as it was, and ends. With private stacks a million take some 9 GB.
 *
 *   parked_create   from the first start until all are parked, for each
 *   parked_rss      resident memory that each takes, in bytes: growth of VmRSS
 *   parked_pte      page tables, likewise: growth of VmPTE
 *   parked_mb       both, for all of them, in MB (10^6)
 *   parked_wake     from the close, or the first send, until all have ended, for each
 *   left_mb         what of that memory the process still has two seconds later, in MB
 *
 * One line a figure: name, procs, figure (nanoseconds unless said otherwise), N. */
#include <weft.h>
#include "resident.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WORDS = 6 };
static const int64_t MS = 1000000;

static int64_t count;
static int stack = WEFT_STACK_PRIVATE, procs = 1;
static bool sends;

/* Not on main's stack: these are waited on. */
static weft_chan_t *gate;
static weft_wg_t in, out;
static _Atomic int64_t wrong, sum;

static void check(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "parked: %s failed\n", what);
        exit(1);
    }
}

static void parker(void *arg)
{
    uint64_t number = (uint64_t)(uintptr_t)arg, frame[WORDS], v;
    bool same = true;
    for (int i = 0; i < WORDS; i++)
        frame[i] = number + (uint64_t)i;
    __asm__ volatile("" ::"r"(frame) : "memory"); /* it is in memory, whatever follows */
    weft_wg_done(&in);
    int got = weft_recv(gate, &v);
    __asm__ volatile("" ::"r"(frame) : "memory");
    for (int i = 0; i < WORDS; i++)
        same &= frame[i] == number + (uint64_t)i;
    if (!same || got != sends)
        atomic_fetch_add(&wrong, 1);
    if (got)
        atomic_fetch_add_explicit(&sum, (int64_t)v, memory_order_relaxed);
    weft_wg_done(&out);
}

static void report(const char *name, double v)
{
    printf("%s\t%d\t%.1f\t%lld\n", name, procs, v, (long long)count);
    fflush(stdout);
}

/* wg counts in an int. */
static void add(weft_wg_t *wg)
{
    weft_wg_add(wg, (int)count);
}

static int parked_main(void *arg)
{
    weft_attr_t attr = {.stack = stack};
    double n = (double)count;
    (void)arg;
    check((gate = weft_chan_make(sizeof(uint64_t), 0)) != NULL, "weft_chan_make");
    add(&in);
    add(&out);

    Memory before = memory(getpid());
    int64_t t = weft_now();
    for (int64_t i = 0; i < count; i++) {
        int rc = weft_go_with(&attr, parker, (void *)(uintptr_t)i);
        if (rc != 0) {
            fprintf(stderr, "parked: weft_go_with: %s after %lld coroutines\n", strerror(-rc),
                    (long long)i);
            exit(1);
        }
    }
    weft_wg_wait(&in);
    double create = (double)(weft_now() - t);
    weft_sleep(10 * MS); /* the last is on its way from done to recv */
    Memory then = memory(getpid());
    report("parked_create", create / n);
    report("parked_rss", (then.rss - before.rss) / n);
    report("parked_pte", (then.pte - before.pte) / n);
    report("parked_mb", (then.rss - before.rss + then.pte - before.pte) / 1e6);

    t = weft_now();
    if (sends)
        for (int64_t i = 0; i < count; i++)
            weft_send(gate, &(uint64_t){(uint64_t)i});
    else
        weft_chan_close(gate);
    weft_wg_wait(&out);
    report("parked_wake", (double)(weft_now() - t) / n);
    check(wrong == 0, "to find the frames as they were");
    check(sum == (sends ? count * (count - 1) / 2 : 0), "the sum of what was received");

    weft_sleep(2000 * MS);
    Memory after = memory(getpid());
    report("left_mb", (after.rss - before.rss + after.pte - before.pte) / 1e6);
    weft_chan_unref(gate);
    return 0;
}

static int usage(void)
{
    fprintf(stderr, "usage: parked N [copied|private] [close|send] [PROCS]\n");
    return 2;
}

int main(int argc, char **argv)
{
    if (argc < 2 || (count = atoll(argv[1])) < 1 || count > INT32_MAX)
        return usage();
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "copied") == 0)
            stack = WEFT_STACK_COPIED;
        else if (strcmp(argv[i], "private") == 0)
            stack = WEFT_STACK_PRIVATE;
        else if (strcmp(argv[i], "send") == 0 || strcmp(argv[i], "close") == 0)
            sends = argv[i][0] == 's';
        else if ((procs = atoi(argv[i])) < 1)
            return usage();
    }
    weft_config_t cfg = {.procs = procs};
    int rc = weft_run_with(&cfg, parked_main, NULL);
    if (rc < 0)
        fprintf(stderr, "parked: %s\n", strerror(-rc));
    return rc != 0;
}
