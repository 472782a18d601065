/* SPDX-License-Identifier: MIT
 *
 * stress_trace.c: traces begin and end while coroutines, threads that are not weft's and a changing number of processors
 * do what is noted. Each file must be whole, and what it says of a coroutine possible. */
#include "stress.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "tests/trace_test.h"

enum { COROS = 24, THREADS = 3, CHANS = 4 };

static int64_t end;
static weft_wg_t all;
static weft_chan_t *chans[CHANS];
static char path[64];
static _Atomic uint64_t traces, records, lost;

static void child(void *arg)
{
    weft_yield();
    (void)weft_try_send(arg, NULL);
}

static _Atomic uint32_t sink;

static void step(uint32_t *s)
{
    weft_chan_t *c = chans[next(s) % CHANS];
    switch (next(s) % 8) {
    case 0:
        weft_sleep(next(s) % 200000);
        break;
    case 1:
        weft_yield();
        break;
    case 2:
        (void)weft_go(child, c);
        break;
    case 3:
        for (uint32_t i = next(s) % 20000; i > 0; i--)
            atomic_fetch_add_explicit(&sink, 1, memory_order_relaxed);
        break;
    case 4:
        weft_set_name("a name of more than fourteen");
        break;
    default:
        if (next(s) % 2)
            (void)weft_send_until(c, NULL, weft_now() + 100000);
        else
            (void)weft_recv_until(c, NULL, weft_now() + 100000);
    }
}

static void worker(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg + 17;
    while (weft_now() < end)
        step(&s);
}

static void *thread(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg + 1700;
    while (weft_now() < end)
        step(&s);
    OK(weft_wg_done(&all) == 0);
    return NULL;
}

static void look(void)
{
    TraceFile f;
    const char *wrong = trace_load(&f, path);
    if (wrong != NULL)
        die(wrong, __LINE__);
    for (size_t i = 0, n = 0; i < f.n && f.lost == 0 && n < 8; i++)
        if (f.x[i].kind == TRACE_SPAWN) {
            n++;
            if ((wrong = trace_check(&f, f.x[i].id)) != NULL)
                die(wrong, __LINE__);
        }
    traces++;
    records += f.n;
    lost += f.lost;
    free(f.x);
}

static void tracer(void *arg)
{
    (void)arg;
    uint32_t s = 99;
    while (weft_now() < end) {
        OK(weft_trace_start(path) == 0);
        OK(weft_trace_start(path) == -EBUSY);
        weft_sleep(next(&s) % 20000000);
        OK(weft_trace_stop() == 0);
        look();
        if (next(&s) % 4 == 0)
            weft_sleep(2000000);
    }
}

static int entry(void *arg)
{
    (void)arg;
    Crowd crowd = {
        .all = &all, .coros = COROS, .threads = THREADS, .worker = worker, .thread = thread};
    for (int i = 0; i < CHANS; i++)
        OK((chans[i] = weft_chan_make(0, (size_t)i)) != NULL);
    OK(weft_wg_go(&all, tracer, NULL) == 0);
    crowd_run(&crowd, end);
    return 0;
}

int main(void)
{
    snprintf(path, sizeof path, "/tmp/weft-stress-trace-%d", (int)getpid());
    end = weft_now() + (int64_t)(stress_seconds() * 1e9);
    OK(weft_run(entry, NULL) == 0);
    unlink(path);
    printf("stress_trace: %llu traces, %llu records, %llu lost\n", (unsigned long long)traces,
           (unsigned long long)records, (unsigned long long)lost);
    return 0;
}
