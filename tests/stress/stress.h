/* SPDX-License-Identifier: MIT
 *
 * stress.h: what the stress tests have in common. */
#ifndef STRESS_H
#define STRESS_H

#include <weft.h>

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static inline void die(const char *what, int line)
{
    fprintf(stderr, "%s: line %d: %s\n", program_invocation_short_name, line, what);
    abort();
}
#define OK(x) ((x) ? (void)0 : die(#x, __LINE__))

/* A random number of 24 bits. */
static inline uint32_t next(uint32_t *s)
{
    *s = *s * 1664525u + 1013904223u;
    return *s >> 8;
}

/* How long a test is to last. */
static inline double stress_seconds(void)
{
    const char *s = getenv("WEFT_STRESS_SECONDS");
    return s != NULL ? atof(s) : 2;
}

/* Processors come and go until end. */
static inline void churn(int64_t end)
{
    for (int n = 0; weft_now() < end; n++) {
        OK(weft_procs(1 + n % 4) > 0);
        weft_sleep(15000000);
    }
}

/* Coroutines and, after a while without them, threads that are not weft's; each gets its number. */
typedef struct {
    weft_wg_t *all; /* counts both; a thread counts itself down */
    int coros, threads;
    void (*worker)(void *);
    void *(*thread)(void *);
} Crowd;

/* Main: until end, and until all of them have ended. */
static inline void crowd_run(const Crowd *c, int64_t end)
{
    pthread_t th[8];
    OK(c->threads <= (int)(sizeof th / sizeof th[0]));
    OK(weft_wg_add(c->all, c->threads) == 0);
    for (int i = 0; i < c->coros; i++)
        OK(weft_wg_go(c->all, c->worker, (void *)(uintptr_t)i) == 0);
    weft_sleep(20000000);
    for (int i = 0; i < c->threads; i++)
        OK(pthread_create(&th[i], NULL, c->thread, (void *)(uintptr_t)i) == 0);
    churn(end);
    OK(weft_wg_wait(c->all) == 0);
    for (int i = 0; i < c->threads; i++)
        pthread_join(th[i], NULL);
}

#endif
