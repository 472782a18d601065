/* SPDX-License-Identifier: MIT
 *
 * busy.c: three coroutines that compute, each in a function of its own, for a profiler to tell apart. Those
 * that pass the processor on by themselves have one, two and three parts of the time.
 *
 * usage: busy TURNS STACK HOW       STACK: private, copied
 *                                   HOW: hot       each is stopped with its thread when its slice is over
 *                                        moved     the same, but it may go on on another thread
 *                                        resumed   it parks after each turn
 * Until they have had so many turns, about a millisecond of CPU time each. Prints "calls A B C": how many each
 * had. */
#include <weft.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Atomic int stop;
static int stack, parks;
static unsigned flags;
static weft_wg_t wg;
static weft_chan_t *token[3];
static volatile unsigned long calls[3], sink;

/* A turn. It keeps its counter in memory, so it has a frame of its own even where
 * leaves have none. The three bodies differ, or the compiler makes one function of them. */
#define TURN(n)                                                                                    \
    static __attribute__((noinline)) void burn_##n(void)                                           \
    {                                                                                              \
        for (volatile unsigned long i = 0; i < 400000; i++)                                        \
            ;                                                                                      \
        calls[n]++;                                                                                \
    }
TURN(0)
TURN(1)
TURN(2)

/* Who has the token gives it to the next. */
static void pass_on(int n)
{
    if (parks) {
        weft_try_send(token[(n + 1) % 3], NULL);
        weft_recv(token[n], NULL);
    }
    sink++; /* no tail call */
}

#define WORKER(n)                                                                                  \
    static __attribute__((noinline)) void middle_##n(void)                                         \
    {                                                                                              \
        while (!stop) {                                                                            \
            for (int i = 0; i <= n; i++)                                                           \
                burn_##n();                                                                        \
            pass_on(n);                                                                            \
        }                                                                                          \
        sink++;                                                                                    \
    }                                                                                              \
    static void start_##n(void *arg)                                                               \
    {                                                                                              \
        (void)arg;                                                                                 \
        middle_##n();                                                                              \
        weft_wg_done(&wg);                                                                         \
    }
WORKER(0)
WORKER(1)
WORKER(2)

static int entry(void *arg)
{
    static void (*const start[])(void *) = {start_0, start_1, start_2};
    const unsigned long *turns = arg;
    weft_wg_add(&wg, 3);
    for (int i = 0; i < 3; i++)
        token[i] = weft_chan_make(0, 1);
    for (int i = 0; i < 3; i++) {
        weft_attr_t attr = {.stack = stack, .flags = flags};
        if (weft_go_with(&attr, start[i], NULL) != 0)
            return 1;
    }
    while (calls[0] + calls[1] + calls[2] < *turns)
        weft_sleep(20000000);
    stop = 1;
    for (int i = 0; i < 3; i++)
        weft_chan_close(token[i]);
    return -weft_wg_wait(&wg);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    unsigned long turns = strtoul(argv[1], NULL, 10);
    stack = strcmp(argv[2], "copied") == 0 ? WEFT_STACK_COPIED : WEFT_STACK_PRIVATE;
    parks = strcmp(argv[3], "resumed") == 0;
    flags = strcmp(argv[3], "moved") == 0 ? WEFT_MOVABLE : 0;
    weft_config_t cfg = {.procs = 1};
    int rc = weft_run_with(&cfg, entry, &turns);
    printf("calls %lu %lu %lu\n", calls[0], calls[1], calls[2]);
    return rc;
}
