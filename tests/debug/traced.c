/* SPDX-License-Identifier: MIT
 *
 * traced.c: a program of which it is known what its coroutines do, for trace.sh and probes.sh.
 * usage: traced [SECONDS]   prints the CPU time of the process when they have ended, in ms; then sleeps so long. */
#include <weft.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TURNS = 200 };

static weft_wg_t wg;
static weft_chan_t *chan;
static volatile unsigned long sink;

static int64_t cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void sleeper(void *arg)
{
    (void)arg;
    weft_sleep(100000000);
    weft_wg_done(&wg);
}

/* Has a frame and a name of its own, in which it is interrupted. */
__attribute__((noinline)) void traced_compute(unsigned long n)
{
    for (unsigned long i = 0; i < n; i++)
        sink++;
}

static void busy(void *arg)
{
    int64_t until = cpu() + 200000000;
    (void)arg;
    while (cpu() < until)
        traced_compute(100000);
    weft_wg_done(&wg);
}

static void talker(void *arg)
{
    long v = 0;
    for (int i = 0; i < TURNS; i++)
        if (arg != NULL)
            weft_send(chan, &v);
        else
            weft_recv(chan, &v);
    weft_wg_done(&wg);
}

static void go(const char *name, void (*fn)(void *), void *arg)
{
    weft_attr_t attr = {.name = name};
    weft_wg_add(&wg, 1);
    if (weft_go_with(&attr, fn, arg) != 0)
        abort();
}

static int entry(void *arg)
{
    chan = weft_chan_make(sizeof(long), 0);
    go("sleeper", sleeper, NULL);
    go("busy", busy, NULL);
    go("busy", busy, NULL);
    go("busy", busy, NULL);
    go("sender", talker, &wg);
    go("receiver", talker, NULL);
    weft_wg_wait(&wg);
    printf("%lld\n", (long long)(cpu() / 1000000));
    fflush(stdout);
    if (arg != NULL)
        weft_sleep((int64_t)(strtod(arg, NULL) * 1e9));
    return 0;
}

int main(int argc, char **argv)
{
    weft_config_t cfg = {.procs = 2};
    return weft_run_with(&cfg, entry, argc > 1 ? argv[1] : NULL);
}
