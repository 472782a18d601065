/* SPDX-License-Identifier: MIT
 *
 * block_test.h: what the tests of blocking calls have in common.
 *
 * A *call* is something that blocks its thread in the kernel until release() is called; with no
 * release(), for CALL_MS. The test's main coroutine goes on meanwhile, on the same processor. That it
 * does needs no clock: if it did not, nobody would ever release the call, and Check's limit ends the test. */
#ifndef BLOCK_TEST_H
#define BLOCK_TEST_H

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "behaviour.h"
#include "preempt_test.h"

enum { CALL_MS = 600 };
/* For whoever waits for a P that somebody has taken into the kernel; see preempt_test.h. */
#define LOOSE (300 * MS)

typedef struct {
    const char *name;
    void (*prepare)(void); /* NULL: nothing to do */
    void (*block)(void);   /* in a coroutine; calls now_blocks() at the last moment */
    void (*release)(void); /* NULL: ends by itself */
} Call;

static _Atomic int64_t blocked_at; /* 0: not yet */
static _Atomic bool call_over;
static weft_wg_t calls_wg;

static inline void now_blocks(void)
{
    blocked_at = weft_now();
}

static inline void plain_sleep(int64_t ns)
{
    struct timespec ts = {ns / SEC, ns % SEC};
    EQ(nanosleep(&ts, NULL), 0);
}

static inline void call_run(void *arg)
{
    const Call *c = arg;
    c->block();
    call_over = true;
    weft_wg_done(&calls_wg);
}

static inline void call_start(const Call *c)
{
    blocked_at = 0;
    call_over = false;
    if (c->prepare != NULL)
        c->prepare();
    EQ(weft_wg_add(&calls_wg, 1), 0);
    go(call_run, (void *)c);
}

static inline void call_end(const Call *c)
{
    if (c->release != NULL)
        c->release();
    EQ(weft_wg_wait(&calls_wg), 0);
    OK(call_over);
}

/* A pipe of the test, plain. */
static int pipe_fds[2];

static inline void pipe_open(void)
{
    EQ(pipe(pipe_fds), 0);
}

static inline void pipe_release(void)
{
    EQ(write(pipe_fds[1], "x", 1), 1);
}

static inline void pipe_take(void)
{
    char c = 0;
    EQ(read(pipe_fds[0], &c, 1), 1);
    EQ(c, 'x');
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static inline void pipe_block(void)
{
    now_blocks();
    pipe_take();
}

static inline void pipe_declared(void)
{
    weft_syscall_enter();
    now_blocks();
    pipe_take();
    weft_syscall_exit();
}

static inline uint64_t retaken(bool declared)
{
    weft_stats_t s;
    EQ(weft_stats(&s), 0);
    return declared ? s.retaken_declared : s.retaken_undeclared;
}

static inline bool preempt_off(void)
{
    const char *s = getenv("WEFT_DEBUG");
    return s != NULL && strstr(s, "preempt=off") != NULL;
}

#endif
