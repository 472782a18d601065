/* SPDX-License-Identifier: MIT
 *
 * stress_ctx.c: trees of contexts that coroutines and foreign threads build, cancel and let go of at the same
 * time, with deadlines that come meanwhile; coroutines that are cancelled with their context; groups whose
 * coroutines fail. Whoever has a context below one that is cancelled sees its end; error and channel agree;
 * who is cancelled by a context was so; nothing is left.
 * WEFT_STRESS_SECONDS long (2); WEFT_DEBUG=chaos=SEED makes it wilder. */
#include <weft.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "tests/stack_test.h"
#include "tests/stress/stress.h"

enum { COROS = 20, WAITERS = 8, THREADS = 2, PLACES = 40, GROUP = 12 };

/* A tree that everybody may hang something into, or replace. */
static struct {
    weft_mutex_t mx;
    weft_ctx_t *ctx; /* with a reference */
} place[PLACES];

static const char key;
static _Atomic uint64_t made, cancelled, expired, waited, groups;
static weft_wg_t all;
static int64_t end;

static weft_ctx_t *take(uint32_t r)
{
    int i = (int)(r % PLACES);
    OK(weft_mutex_lock(&place[i].mx) == 0);
    weft_ctx_t *ctx = weft_ctx_ref(place[i].ctx);
    OK(weft_mutex_unlock(&place[i].mx) == 0);
    return ctx;
}

/* Takes the caller's reference. */
static void put(uint32_t r, weft_ctx_t *ctx)
{
    int i = (int)(r % PLACES);
    OK(weft_mutex_lock(&place[i].mx) == 0);
    weft_ctx_t *old = place[i].ctx;
    place[i].ctx = ctx;
    OK(weft_mutex_unlock(&place[i].mx) == 0);
    weft_ctx_unref(old);
}

static weft_ctx_t *child(weft_ctx_t *parent, uint32_t r)
{
    uint32_t kind = r % 8;
    r /= 8;
    weft_ctx_t *ctx = kind == 0 ? weft_ctx_with_value(parent, &key, &all)
                      : kind < 4
                          ? weft_ctx_with_deadline(
                                parent, weft_now() + (int64_t)(r % 1024) * (kind == 1 ? 100 : 2000))
                          : weft_ctx_with_cancel(parent);
    OK(ctx != NULL);
    atomic_fetch_add(&made, 1);
    return ctx;
}

static void look(weft_ctx_t *ctx)
{
    weft_chan_t *done = weft_ctx_done(ctx);
    int err = weft_ctx_err(ctx), closed = weft_try_recv(done, NULL);
    OK(err == 0 || closed == 0);
    int later = weft_ctx_err(ctx), cause = weft_ctx_cause(ctx);
    OK(closed != 0 || (later != 0 && cause != 0));
    OK(err == 0 || err == later);
    OK(later == 0 || later == -ECANCELED || (later == -ETIMEDOUT && cause == -ETIMEDOUT));
}

/* What is below a cancelled one follows. */
static void follow(weft_ctx_t *parent, weft_ctx_t *ctx)
{
    if (weft_ctx_err(parent) == 0)
        return;
    OK(weft_recv_until(weft_ctx_done(ctx), NULL, weft_now() + 30000000000) == 0);
    OK(weft_ctx_err(ctx) != 0);
}

static _Atomic uint64_t bound, ended_early;
static _Atomic int alive;

static void sleeper(void *ctx)
{
    int rc = weft_sleep((int64_t)((uintptr_t)ctx / 64 % 1024) * 2000);
    OK(rc == 0 || (rc == -ECANCELED && weft_ctx_err(ctx) != 0));
    ended_early += rc != 0;
    weft_ctx_unref(ctx);
    atomic_fetch_sub(&alive, 1);
}

static void bind_one(weft_ctx_t *ctx)
{
    weft_attr_t attr = {.ctx = ctx};
    if (atomic_fetch_add(&alive, 1) < 1000) {
        OK(weft_go_with(&attr, sleeper, weft_ctx_ref(ctx)) == 0);
        bound++;
    } else {
        atomic_fetch_sub(&alive, 1);
    }
}

static void step(uint32_t *s)
{
    uint32_t kind = next(s) % 16, r = next(s);
    weft_ctx_t *parent = next(s) % 16 == 0 ? weft_ctx_background() : take(r);
    weft_ctx_t *ctx = child(parent, next(s));
    look(ctx);
    if (kind % 4 == 1)
        bind_one(ctx);
    if (kind == 0) { /* else trees grow old */
        int rc = weft_ctx_cancel(parent, -EIO);
        OK(rc == 0 || rc == -EINVAL);
        cancelled += rc == 0;
    } else if (kind < 4) {
        OK(weft_ctx_cancel(ctx, 0) == 0 || weft_ctx_done(ctx) == weft_ctx_done(parent));
        cancelled++;
    }
    look(parent);
    follow(parent, ctx);
    expired += weft_ctx_err(ctx) == -ETIMEDOUT;
    weft_ctx_unref(parent);
    look(ctx);
    if (kind % 4 == 3)
        weft_ctx_unref(ctx);
    else
        put(next(s), ctx);
}

static void worker(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 77 + 1;
    for (int i = 0; weft_now() < end; i++) {
        step(&s);
        if (i % 8 == 0)
            weft_yield();
    }
}

static void *thread(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 99 + 5;
    while (weft_now() < end)
        step(&s);
    weft_wg_done(&all);
    return NULL;
}

/* Waits for whatever comes first of two. */
static void waiter(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 55 + 3;
    while (weft_now() < end) {
        weft_ctx_t *a = take(next(&s)), *b = take(next(&s));
        weft_case_t k[2] = {{.op = WEFT_RECV, .chan = weft_ctx_done(a)},
                            {.op = WEFT_RECV, .chan = weft_ctx_done(b)}};
        int64_t deadline = weft_now() + 3000000;
        int rc = next(&s) % 2 == 0 ? weft_select(k, 2, deadline)
                                   : weft_recv_until(weft_ctx_done(a), NULL, deadline);
        OK(rc == -ETIMEDOUT || rc == 0 || rc == 1);
        if (rc >= 0) {
            OK(weft_ctx_err(rc == 0 ? a : b) != 0);
            waited++;
        }
        weft_ctx_unref(a);
        weft_ctx_unref(b);
    }
}

/* ---- groups ---- */

typedef struct {
    weft_group_t group;
    weft_ctx_t *ctx;
    _Atomic int running, ended;
    uint32_t seed;
} Team;

static int member(void *arg)
{
    Team *t = arg;
    OK(atomic_fetch_add(&t->running, 1) < 4);
    uint32_t r = (t->seed + (uint32_t)t->ended) * 2654435761u >> 8;
    if (r % 4 == 0)
        weft_sleep(r % 50000);
    if (r % 8 == 1)
        OK(weft_recv_until(weft_ctx_done(t->ctx), NULL, weft_now() + 100000) <= 0);
    atomic_fetch_sub(&t->running, 1);
    atomic_fetch_add(&t->ended, 1);
    return r % 16 == 2 ? -EIO : 0;
}

static void leader(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 33 + 7;
    while (weft_now() < end) {
        Team *t = calloc(1, sizeof *t);
        int started = 0;
        OK(t != NULL);
        t->seed = next(&s);
        OK(weft_group_limit(&t->group, 4) == 0);
        t->ctx = weft_ctx_ref(weft_group_context(&t->group));
        for (int i = 0; i < GROUP; i++) {
            int64_t deadline = i % 4 == 0 ? weft_now() + 20000 : 0;
            int rc = weft_group_go_until(&t->group, member, t, deadline);
            OK(rc == 0 || (deadline != 0 && rc == -ETIMEDOUT));
            started += rc == 0;
        }
        int rc = weft_group_wait(&t->group);
        OK(rc == 0 || rc == -EIO);
        OK(t->ended == started && t->running == 0);
        OK(weft_ctx_err(t->ctx) == -ECANCELED);
        OK(weft_ctx_cause(t->ctx) == (rc != 0 ? rc : -ECANCELED));
        weft_ctx_unref(t->ctx);
        free(t);
        groups++;
    }
}

static int entry(void *arg)
{
    weft_stats_t st;
    end = weft_now() + (int64_t)(*(double *)arg * 1e9);
    for (uint32_t i = 0; i < PLACES; i++)
        put(i, weft_ctx_with_cancel(weft_ctx_background()));
    for (int i = 0; i < WAITERS; i++)
        OK(weft_wg_go(&all, i % 2 == 0 ? waiter : leader, (void *)(uintptr_t)i) == 0);
    crowd_run(&(Crowd){&all, COROS, THREADS, worker, thread}, end);
    for (uint32_t i = 0; i < PLACES; i++)
        put(i, NULL);
    while (alive > 0)
        weft_sleep(1000000);
    int64_t last = weft_now() + 30000000000;
    do { /* nobody is left who would be told; who has fired the last ones may still be at it */
        OK(weft_now() < last);
        weft_yield();
        OK(weft_stats(&st) == 0);
    } while (st.timers != 0);
    return 0;
}

int main(void)
{
    double seconds = stress_seconds();
    weft_config_t cfg = {.stack = test_stack()};
    int rc = weft_run_with(&cfg, entry, &seconds);
    printf("made %llu, cancelled %llu, expired %llu, waited %llu, groups %llu, bound %llu, ended "
           "%llu\n",
           (unsigned long long)made, (unsigned long long)cancelled, (unsigned long long)expired,
           (unsigned long long)waited, (unsigned long long)groups, (unsigned long long)bound,
           (unsigned long long)ended_early);
    return rc == 0 ? 0 : 1;
}
