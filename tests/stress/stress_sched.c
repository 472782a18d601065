/* SPDX-License-Identifier: MIT
 *
 * stress_sched.c: steal, park, ready. Coroutines that do little but wake each
 * other: rings that hand tokens round over channels, a crowd that moves
 * units between accounts under mutexes, trees of wait groups, bursts that
 * overflow a run queue, yielders that keep queues busy, and now and then a
 * moment in which all but one sleep, so that processors go idle and must be
 * woken.
 *
 * Tokens, units and leaves are conserved. No thread but weft's is about: a
 * lost wake-up is reported as a deadlock, or hangs, and the caller has a time
 * limit. Runs on 1, 2, 3 and 4 processors in turn.
 * WEFT_STRESS_SECONDS long (2); WEFT_DEBUG=chaos=SEED makes it wilder. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/stack_test.h"
#include "tests/stress/stress.h"

enum {
    RINGS = 3,
    MEMBERS = 24,
    TOKENS = 5,
    CROWD = 24,
    ACCOUNTS = 7,
    UNITS = 1000,
    TREES = 3,
    YIELDERS = 4,
    BURST = 700
};

static const int64_t MS = 1000000;

typedef struct {
    weft_chan_t *link[MEMBERS];
    weft_chan_t *home; /* tokens that have come to rest */
} Ring;

typedef struct {
    weft_mutex_t mx;
    int64_t units;
} Account;

static Account accounts[ACCOUNTS];
static _Atomic uint64_t hops, moves, leaves, burst, yields, rests;
static weft_wg_t all;
static int64_t end;

/* ---- rings: member i receives from link[i] and sends to link[i + 1] ---- */

typedef struct {
    Ring *ring;
    int at;
    uint32_t seed;
} Member;

/* A token goes home once time is up; when all are there the links are closed. */
static void member(void *arg)
{
    Member *me = arg;
    weft_chan_t *in = me->ring->link[me->at], *out = me->ring->link[(me->at + 1) % MEMBERS];
    uint32_t v;
    for (;;) {
        if (next(&me->seed) % 3 == 0) {
            weft_case_t k[2] = {{.op = WEFT_RECV, .chan = NULL},
                                {.op = WEFT_RECV, .chan = in, .elem = &v}};
            OK(weft_select(k, 2, 0) == 1);
            if (k[1].result == 0)
                break;
        } else if (weft_recv(in, &v) == 0) {
            break;
        }
        atomic_fetch_add(&hops, 1);
        if (weft_now() >= end)
            OK(weft_send(me->ring->home, &v) == 0);
        else
            OK(weft_send(out, &v) == 0);
    }
    free(me);
}

static void ring(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg + 1, seen = 0, v;
    Ring *r = calloc(1, sizeof *r);
    r->home = weft_chan_make(sizeof(uint32_t), TOKENS); /* room: we may still be sending some out */
    for (int i = 0; i < MEMBERS; i++)
        r->link[i] = weft_chan_make(sizeof(uint32_t), (size_t)(uintptr_t)arg % 2);
    weft_wg_t wg = {0};
    for (int i = 0; i < MEMBERS; i++) {
        Member *m = malloc(sizeof *m);
        *m = (Member){r, i, next(&s)};
        OK(weft_wg_go(&wg, member, m) == 0);
    }
    for (v = 0; v < TOKENS; v++)
        OK(weft_send(r->link[next(&s) % MEMBERS], &v) == 0);
    for (int i = 0; i < TOKENS; i++) {
        OK(weft_recv(r->home, &v) == 1);
        OK(v < TOKENS && (seen & 1u << v) == 0);
        seen |= 1u << v;
    }
    for (int i = 0; i < MEMBERS; i++)
        weft_chan_close(r->link[i]);
    OK(weft_wg_wait(&wg) == 0);
    for (int i = 0; i < MEMBERS; i++)
        weft_chan_unref(r->link[i]);
    weft_chan_unref(r->home);
    free(r);
}

/* ---- a crowd at few accounts ---- */

static void mover(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 77 + 11;
    while (weft_now() < end) {
        uint32_t i = next(&s) % ACCOUNTS, j = next(&s) % ACCOUNTS, lo = i < j ? i : j;
        if (i == j)
            continue;
        Account *a = &accounts[lo], *b = &accounts[i + j - lo]; /* in order: no cycle */
        int64_t n = next(&s) % 10;
        OK(weft_mutex_lock(&a->mx) == 0);
        if (next(&s) % 8 == 0)
            weft_yield();
        OK(weft_mutex_lock(&b->mx) == 0);
        a->units -= n;
        b->units += n;
        OK(weft_mutex_unlock(&b->mx) == 0);
        if (next(&s) % 64 == 0)
            weft_yield();
        OK(weft_mutex_unlock(&a->mx) == 0);
        atomic_fetch_add(&moves, 1);
    }
}

/* ---- trees ---- */

typedef struct {
    int depth;
    _Atomic int *count;
} Branch;

static void branch(void *arg)
{
    Branch *b = arg;
    if (b->depth == 0) {
        atomic_fetch_add(b->count, 1);
        return;
    }
    Branch below = {b->depth - 1, b->count}; /* on our stack, used by others: it is private */
    weft_wg_t wg = {0};
    for (int i = 0; i < 3; i++)
        OK(weft_wg_go(&wg, branch, &below) == 0);
    OK(weft_wg_wait(&wg) == 0);
}

static void tree(void *arg)
{
    (void)arg;
    while (weft_now() < end) {
        _Atomic int count = 0;
        Branch root = {5, &count};
        branch(&root);
        OK(count == 3 * 3 * 3 * 3 * 3);
        atomic_fetch_add(&leaves, (uint64_t)count);
        weft_yield();
    }
}

/* ---- bursts, yielders, rests ---- */

static void spark(void *arg)
{
    atomic_fetch_add((_Atomic int *)arg, 1);
}

static void burster(void *arg)
{
    (void)arg;
    while (weft_now() < end) {
        weft_wg_t wg = {0};
        _Atomic int n = 0;
        for (int i = 0; i < BURST; i++)
            OK(weft_wg_go(&wg, spark, &n) == 0);
        OK(weft_wg_wait(&wg) == 0);
        OK(n == BURST);
        atomic_fetch_add(&burst, BURST);
        weft_sleep(MS);
    }
}

static void yielder(void *arg)
{
    (void)arg;
    while (weft_now() < end) {
        weft_yield();
        atomic_fetch_add(&yields, 1);
    }
}

static void waker(void *arg)
{
    for (int i = 0; i < 20; i++)
        OK(weft_send(arg, NULL) == 0);
}

/* Nearly idle: one wakes another, both sleep, all processors but theirs sleep. */
static void rest(int64_t ns)
{
    int64_t until = weft_now() + ns;
    weft_chan_t *c = weft_chan_make(0, 0);
    while (weft_now() < until) {
        OK(weft_go(waker, c) == 0);
        for (int i = 0; i < 20; i++)
            OK(weft_recv(c, NULL) == 1);
        weft_sleep(MS / 5);
        atomic_fetch_add(&rests, 1);
    }
    weft_chan_unref(c);
}

/* ---- one run ---- */

static void round_of(int64_t ns, uint32_t r)
{
    end = weft_now() + ns;
    for (uintptr_t i = 0; i < RINGS; i++)
        OK(weft_wg_go(&all, ring, (void *)i) == 0);
    for (uintptr_t i = 0; i < CROWD; i++)
        OK(weft_wg_go(&all, mover, (void *)(i + r)) == 0);
    for (int i = 0; i < TREES; i++)
        OK(weft_wg_go(&all, tree, NULL) == 0);
    for (uint32_t i = 0; i < r % YIELDERS; i++)
        OK(weft_wg_go(&all, yielder, NULL) == 0);
    OK(weft_wg_go(&all, burster, NULL) == 0);
    OK(weft_wg_wait(&all) == 0);
    int64_t sum = 0;
    for (int i = 0; i < ACCOUNTS; i++)
        sum += accounts[i].units;
    OK(sum == ACCOUNTS * UNITS);
}

static int entry(void *arg)
{
    int64_t ns = *(int64_t *)arg, until = weft_now() + ns;
    memset((void *)accounts, 0, sizeof accounts);
    for (int i = 0; i < ACCOUNTS; i++)
        accounts[i].units = UNITS;
    for (uint32_t r = 0; r == 0 || weft_now() < until; r++) {
        int64_t left = until - weft_now();
        round_of(left < 100 * MS ? left : 100 * MS, r);
        rest(left / 10 < 20 * MS ? left / 10 : 20 * MS);
    }
    return 0;
}

int main(void)
{
    private_only("burster() waits for a wait group in its frame");
    double seconds = stress_seconds();
    int64_t ns = (int64_t)(seconds * 1e9 / 4);
    for (int procs = 1; procs <= 4; procs++) {
        weft_config_t cfg = {.stack = test_stack(), .procs = procs};
        OK(weft_run_with(&cfg, entry, &ns) == 0);
    }
    printf("hops %llu, moves %llu, leaves %llu, burst %llu, yields %llu, rests %llu\n",
           (unsigned long long)hops, (unsigned long long)moves, (unsigned long long)leaves,
           (unsigned long long)burst, (unsigned long long)yields, (unsigned long long)rests);
    OK(hops > 0 && moves > 0 && leaves > 0 && burst > 0);
    return 0;
}
