/* SPDX-License-Identifier: MIT
 *
 * check_ctx.c: contexts behave as Go's package context says.
 *
 * A test's body runs as the main coroutine on 1, 2 and 4 processors. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "behaviour.h"

static const int64_t HOURS = 3600 * SEC;
static const char key1, key2, key3;

static weft_wg_t wg;
static atomic_int count;
static weft_ctx_t *shared;

static void reset(void)
{
    memset(&wg, 0, sizeof wg);
    count = 0;
    shared = NULL;
}

static weft_ctx_t *ok(weft_ctx_t *ctx)
{
    OK(ctx != NULL);
    return ctx;
}
#define BACKGROUND weft_ctx_background()
#define WITH_CANCEL(parent) ok(weft_ctx_with_cancel(parent))
#define WITH_DEADLINE(parent, when) ok(weft_ctx_with_deadline(parent, when))
#define WITH_VALUE(parent, key, v) ok(weft_ctx_with_value(parent, key, (void *)(intptr_t)(v)))

static intptr_t value(weft_ctx_t *ctx, const char *key)
{
    return (intptr_t)weft_ctx_value(ctx, key);
}

/* Every sign of it, or none. */
static void is_over(weft_ctx_t *ctx, int err, int cause, int line)
{
    weft_chan_t *done = weft_ctx_done(ctx);
    check_eq(weft_ctx_err(ctx), err, line);
    check_eq(weft_ctx_cause(ctx), cause, line);
    check_eq(weft_try_recv(done, NULL), err != 0 ? 0 : -EAGAIN, line);
    check_true(err == 0 || weft_recv(done, NULL) == 0, "closed", line);
}
#define IS_OVER(ctx, err, cause) is_over(ctx, err, cause, __LINE__)
#define IS_OPEN(ctx) is_over(ctx, 0, 0, __LINE__)
#define CANCELED(ctx) is_over(ctx, -ECANCELED, -ECANCELED, __LINE__)
#define TIMED_OUT(ctx) is_over(ctx, -ETIMEDOUT, -ETIMEDOUT, __LINE__)

static void unref_all(weft_ctx_t **ctx, int n)
{
    for (int i = 0; i < n; i++)
        weft_ctx_unref(ctx[i]);
}

/* ---- one context ------------------------------------------------------------------------------- */

/* Go: TestBackground, TestTODO. */
static void background_body(void)
{
    weft_ctx_t *b = BACKGROUND;
    OK(b != NULL && b == BACKGROUND);
    EQ(weft_ctx_err(b), 0);
    EQ(weft_ctx_cause(b), 0);
    OK(weft_ctx_done(b) == NULL);
    EQ(value(b, &key1), 0);
    EQ(weft_ctx_cancel(b, 0), -EINVAL);
    OK(weft_ctx_ref(b) == b);
    for (int i = 0; i < 10; i++)
        weft_ctx_unref(b);
    weft_ctx_t *v = WITH_VALUE(b, &key1, 1);
    OK(weft_ctx_done(v) == NULL);
    EQ(weft_ctx_err(v), 0);
    EQ(weft_ctx_cancel(v, 0), -EINVAL);
    weft_ctx_unref(v);
}

static void bad_body(void)
{
    OK(weft_ctx_with_cancel(NULL) == NULL);
    OK(weft_ctx_with_deadline(NULL, from_now(SEC)) == NULL);
    OK(weft_ctx_with_deadline(NULL, 1) == NULL);
    OK(weft_ctx_with_value(NULL, &key1, NULL) == NULL);
    OK(weft_ctx_with_value(BACKGROUND, NULL, NULL) == NULL);
    EQ(weft_ctx_cancel(NULL, 0), -EINVAL);
    EQ(weft_ctx_err(NULL), -EINVAL);
    EQ(weft_ctx_cause(NULL), -EINVAL);
    OK(weft_ctx_done(NULL) == NULL);
    OK(weft_ctx_value(NULL, &key1) == NULL);
    OK(weft_ctx_ref(NULL) == NULL);
    weft_ctx_unref(NULL);
    weft_ctx_t *c = WITH_CANCEL(BACKGROUND), *v = WITH_VALUE(c, &key1, 1);
    EQ(weft_ctx_cancel(c, 1), -EINVAL);
    EQ(weft_ctx_cancel(v, -EIO), -EINVAL);
    IS_OPEN(c);
    weft_ctx_unref(v);
    weft_ctx_unref(c);
}

/* Go: TestWithCancel, TestCause. */
static void cancel_body(void)
{
    weft_ctx_t *c = WITH_CANCEL(BACKGROUND);
    IS_OPEN(c);
    EQ(weft_chan_cap(weft_ctx_done(c)), 0);
    OK(weft_ctx_done(c) == weft_ctx_done(c));
    EQ(weft_ctx_cancel(c, -EIO), 0);
    IS_OVER(c, -ECANCELED, -EIO);
    EQ(weft_ctx_cancel(c, -ENOENT), 0); /* the first one counts */
    EQ(weft_ctx_cancel(c, 0), 0);
    IS_OVER(c, -ECANCELED, -EIO);
    weft_ctx_unref(c);

    c = WITH_CANCEL(BACKGROUND);
    EQ(weft_ctx_cancel(c, -ETIMEDOUT), 0); /* a cause is not a deadline */
    IS_OVER(c, -ECANCELED, -ETIMEDOUT);
    weft_ctx_unref(c);

    c = WITH_CANCEL(BACKGROUND);
    EQ(weft_ctx_cancel(c, 0), 0);
    CANCELED(c);
    OK(weft_ctx_ref(c) == c);
    weft_ctx_unref(c);
    CANCELED(c);
    weft_ctx_unref(c);
}

/* Go: TestValues. */
static void values_body(void)
{
    weft_ctx_t *c[5];
    c[0] = WITH_VALUE(BACKGROUND, &key1, 11);
    EQ(value(c[0], &key1), 11);
    EQ(value(c[0], &key2), 0);
    c[1] = WITH_VALUE(c[0], &key2, 12);
    c[2] = WITH_CANCEL(c[1]);
    c[3] = WITH_VALUE(c[2], &key3, 13);
    EQ(value(c[3], &key1), 11);
    EQ(value(c[3], &key2), 12);
    EQ(value(c[3], &key3), 13);
    EQ(value(c[2], &key3), 0);
    c[4] = WITH_VALUE(c[3], &key1, 0); /* hides what is above */
    EQ(value(c[4], &key1), 0);
    EQ(value(c[4], &key2), 12);
    EQ(value(c[4], NULL), 0);
    OK(weft_ctx_done(c[4]) == weft_ctx_done(c[2]));
    unref_all(c, 4); /* the last one keeps them all */
    EQ(value(c[4], &key2), 12);
    EQ(value(c[4], &key3), 13);
    weft_ctx_unref(c[4]);
}

/* The channel may stay longer than its context, which then closes it no more. */
static void done_kept_body(void)
{
    weft_ctx_t *c = WITH_CANCEL(BACKGROUND), *d = WITH_DEADLINE(c, from_now(HOURS));
    weft_chan_t *done[2] = {weft_chan_ref(weft_ctx_done(c)), weft_chan_ref(weft_ctx_done(d))};
    EQ(weft_ctx_cancel(c, 0), 0);
    weft_ctx_unref(d);
    weft_ctx_unref(c);
    for (int i = 0; i < 2; i++) {
        EQ(weft_recv(done[i], NULL), 0);
        weft_chan_unref(done[i]);
    }
    c = WITH_CANCEL(BACKGROUND);
    done[0] = weft_chan_ref(weft_ctx_done(c));
    weft_ctx_unref(c);
    EQ(weft_recv_until(done[0], NULL, from_now(MS)), -ETIMEDOUT);
    weft_chan_unref(done[0]);
}

/* ---- trees ----------------------------------------------------------------------------------------- */

/* Go: TestParentFinishesChild. */
static void parent_first_body(void)
{
    weft_ctx_t *parent = WITH_CANCEL(BACKGROUND), *c[5];
    c[0] = WITH_CANCEL(parent);
    c[1] = WITH_VALUE(parent, &key1, 5);
    c[2] = WITH_DEADLINE(c[1], from_now(10 * HOURS));
    c[3] = WITH_CANCEL(c[2]);
    for (int i = 0; i < 4; i++)
        IS_OPEN(c[i]);
    EQ(weft_ctx_cancel(parent, -EIO), 0);
    IS_OVER(parent, -ECANCELED, -EIO);
    for (int i = 0; i < 4; i++)
        IS_OVER(c[i], -ECANCELED, -EIO);
    EQ(value(c[3], &key1), 5);
    EQ(weft_ctx_cancel(c[3], -ENOENT), 0);
    IS_OVER(c[3], -ECANCELED, -EIO);

    weft_ctx_t *late[4]; /* as their parent is, from the start */
    late[0] = WITH_CANCEL(parent);
    late[1] = WITH_DEADLINE(c[3], from_now(SEC));
    late[2] = WITH_DEADLINE(parent, 1);
    late[3] = WITH_VALUE(late[0], &key1, 6);
    for (int i = 0; i < 4; i++)
        IS_OVER(late[i], -ECANCELED, -EIO);
    unref_all(late, 4);
    unref_all(c, 4);
    weft_ctx_unref(parent);
}

/* Go: TestChildFinishesFirst. */
static void child_first_body(void)
{
    for (int i = 0; i < 2; i++) {
        weft_ctx_t *parent = i == 0 ? BACKGROUND : WITH_CANCEL(BACKGROUND);
        weft_ctx_t *child = WITH_CANCEL(parent), *other = WITH_CANCEL(parent);
        EQ(weft_ctx_cancel(child, 0), 0);
        CANCELED(child);
        IS_OPEN(other);
        EQ(weft_ctx_err(parent), 0);
        if (i == 1) {
            EQ(weft_ctx_cancel(parent, -EIO), 0);
            IS_OVER(parent, -ECANCELED, -EIO);
            IS_OVER(other, -ECANCELED, -EIO);
            CANCELED(child);
        }
        weft_ctx_unref(child);
        weft_ctx_unref(other);
        weft_ctx_unref(parent);
    }
}

/* Who has no name any more passes it on all the same; a dropped child is not looked for. */
static void nameless_body(void)
{
    weft_ctx_t *top = WITH_CANCEL(BACKGROUND), *middle = WITH_CANCEL(top);
    weft_ctx_t *timed = WITH_DEADLINE(middle, from_now(HOURS)), *leaf = WITH_CANCEL(timed);
    weft_ctx_unref(middle);
    weft_ctx_unref(timed);
    for (int i = 0; i < 100; i++)
        weft_ctx_unref(WITH_CANCEL(top));
    EQ(weft_ctx_cancel(top, 0), 0);
    CANCELED(leaf);
    weft_ctx_unref(top);
    CANCELED(leaf);
    weft_ctx_unref(leaf);
}

/* Go: TestLayersCancel, TestLayersTimeout. Random trees. */
enum { NODES = 300 };

static void layers(uint32_t seed, bool timeout)
{
    static weft_ctx_t *c[NODES];
    static int up[NODES];
    static bool over[NODES];
    uint32_t s = seed * 7919 + 1;
    c[0] = timeout ? WITH_DEADLINE(BACKGROUND, from_now(20 * MS)) : WITH_CANCEL(BACKGROUND);
    for (int i = 1; i < NODES; i++) {
        s = s * 1664525u + 1013904223u;
        up[i] = (int)((s >> 8) % (uint32_t)i);
        weft_ctx_t *p = c[up[i]];
        c[i] = s >> 30 == 0   ? WITH_VALUE(p, &key1, i)
               : s >> 30 == 1 ? WITH_DEADLINE(p, from_now(HOURS))
                              : WITH_CANCEL(p);
    }
    memset(over, 0, sizeof over);
    for (int i = 1; i < NODES && !timeout; i++) { /* some, then with what is below */
        s = s * 1664525u + 1013904223u;
        if (s >> 29 == 0 && weft_ctx_cancel(c[i], -EIO) == 0)
            over[i] = true;
        else if (over[up[i]])
            over[i] = true;
    }
    for (int i = 1; i < NODES && !timeout; i++) { /* whose parents were cancelled later */
        over[i] |= over[up[i]];
        if (over[i])
            IS_OVER(c[i], -ECANCELED, -EIO);
        else
            EQ(weft_ctx_err(c[i]), 0);
    }
    if (timeout)
        EQ(weft_recv(weft_ctx_done(c[0]), NULL), 0);
    else
        EQ(weft_ctx_cancel(c[0], 0), 0);
    for (int i = 0; i < NODES; i++) {
        EQ(weft_recv_until(weft_ctx_done(c[i]), NULL, from_now(60 * SEC)), 0);
        EQ(weft_ctx_err(c[i]), timeout ? -ETIMEDOUT : -ECANCELED);
    }
    for (int i = 0; i < NODES; i++)
        weft_ctx_unref(c[seed % 2 == 0 ? i : NODES - 1 - i]);
}

static void layers_body(void)
{
    for (uint32_t seed = 0; seed < 6; seed++)
        layers(seed, seed >= 4);
}

/* Depth costs no stack, neither to cancel nor to free. */
enum { LONG = 100000 };

static void chain_body(void)
{
    static weft_ctx_t *c[LONG];
    for (int end = 0; end < 2; end++) {
        c[0] = WITH_CANCEL(BACKGROUND);
        for (int i = 1; i < LONG; i++) {
            c[i] = i % 10 == 0 ? WITH_VALUE(c[i - 1], &key1, i) : WITH_CANCEL(c[i - 1]);
            if (end == 1)
                weft_ctx_unref(c[i - 1]);
        }
        EQ(value(c[LONG - 1], &key1), (LONG - 1) / 10 * 10);
        EQ(value(c[LONG - 1], &key2), 0);
        if (end == 0) {
            EQ(weft_ctx_cancel(c[0], -EIO), 0);
            IS_OVER(c[LONG / 2], -ECANCELED, -EIO);
            IS_OVER(c[LONG - 1], -ECANCELED, -EIO);
            unref_all(c, LONG - 1);
        }
        weft_ctx_unref(c[LONG - 1]);
    }
}

/* As many beside each other; Go: TestCustomContextGoroutines: nobody runs for them. */
static void broad_body(void)
{
    static weft_ctx_t *c[LONG];
    weft_ctx_t *top = WITH_CANCEL(BACKGROUND);
    for (int i = 0; i < LONG; i++)
        c[i] = WITH_CANCEL(top);
    EQ(weft_num_coroutines(), 1);
    EQ(weft_ctx_cancel(c[7], 0), 0);
    EQ(weft_ctx_cancel(top, -EIO), 0);
    CANCELED(c[7]);
    IS_OVER(c[0], -ECANCELED, -EIO);
    IS_OVER(c[LONG - 1], -ECANCELED, -EIO);
    unref_all(c, LONG);
    weft_ctx_unref(top);
}

/* ---- deadlines --------------------------------------------------------------------------------------- */

static uint64_t timers(void)
{
    weft_stats_t s;
    EQ(weft_stats(&s), 0);
    return s.timers;
}

/* Go: TestDeadline, TestTimeout. */
static void deadline_body(void)
{
    int64_t when = from_now(20 * MS);
    weft_ctx_t *c[4];
    c[0] = WITH_DEADLINE(BACKGROUND, when);
    c[1] = WITH_VALUE(c[0], &key1, 1);
    c[2] = WITH_CANCEL(c[1]);
    c[3] = WITH_DEADLINE(c[2], from_now(HOURS));
    EQ(weft_recv(weft_ctx_done(c[3]), NULL), 0);
    OK(weft_now() >= when);
    for (int i = 0; i < 4; i++)
        TIMED_OUT(c[i]);
    EQ(weft_ctx_cancel(c[0], -EIO), 0); /* too late */
    TIMED_OUT(c[0]);
    unref_all(c, 4);

    c[0] = WITH_DEADLINE(BACKGROUND, from_now(HOURS));
    c[1] = WITH_DEADLINE(c[0], from_now(10 * MS)); /* earlier */
    EQ(weft_recv(weft_ctx_done(c[1]), NULL), 0);
    TIMED_OUT(c[1]);
    IS_OPEN(c[0]);
    unref_all(c, 2);

    c[0] = WITH_DEADLINE(BACKGROUND, from_now(HOURS));
    c[1] = WITH_CANCEL(c[0]);
    c[2] = WITH_DEADLINE(c[1], from_now(2 * HOURS)); /* later: nothing of its own */
    EQ(timers(), 1);
    unref_all(c, 3);
    EQ(timers(), 0);
}

static void past_body(void)
{
    weft_ctx_t *c[5];
    c[0] = WITH_DEADLINE(BACKGROUND, 1);
    TIMED_OUT(c[0]);
    c[1] = WITH_DEADLINE(BACKGROUND, INT64_MIN);
    TIMED_OUT(c[1]);
    c[2] = WITH_CANCEL(c[1]);
    TIMED_OUT(c[2]);
    c[3] = WITH_DEADLINE(BACKGROUND, 0); /* none */
    IS_OPEN(c[3]);
    c[4] = WITH_DEADLINE(c[3], INT64_MAX);
    IS_OPEN(c[4]);
    EQ(timers(), 0);
    EQ(weft_ctx_cancel(c[3], 0), 0);
    CANCELED(c[4]);
    unref_all(c, 5);
}

/* Go: TestCanceledTimeout. And nobody waits for the time to come. */
static void canceled_deadline_body(void)
{
    weft_ctx_t *c = WITH_DEADLINE(BACKGROUND, from_now(2 * HOURS));
    weft_ctx_t *o = WITH_DEADLINE(c, from_now(HOURS));
    EQ(timers(), 2);
    EQ(weft_ctx_cancel(o, 0), 0);
    CANCELED(o);
    EQ(timers(), 1);
    IS_OPEN(c);
    weft_ctx_unref(c);
    EQ(timers(), 1); /* o keeps it */
    weft_ctx_unref(o);
    EQ(timers(), 0);
    for (int i = 0; i < 1000; i++) {
        c = WITH_DEADLINE(BACKGROUND, from_now(HOURS + i));
        weft_ctx_t *child = WITH_CANCEL(c);
        weft_ctx_unref(c);
        if (i % 2 == 0)
            EQ(weft_ctx_cancel(child, 0), 0);
        weft_ctx_unref(child);
    }
    EQ(timers(), 0);
}

/* Many of them, let go at about the time they fire. */
static void dropped_body(void)
{
    for (int i = 0; i < 3000; i++) {
        weft_ctx_t *c = WITH_DEADLINE(BACKGROUND, from_now(i % 100 * US));
        if (i % 3 == 0)
            EQ(weft_ctx_cancel(c, 0), 0);
        if (i % 50 == 0)
            weft_sleep(50 * US);
        int err = weft_ctx_err(c);
        OK(err == 0 || err == -ECANCELED || err == -ETIMEDOUT);
        OK(i % 3 != 0 || err != 0);
        weft_ctx_unref(c);
    }
}

/* ---- those that wait -------------------------------------------------------------------------------------- */

static void by_recv(void *ctx)
{
    atomic_fetch_add(&count, 1);
    EQ(weft_recv(weft_ctx_done(ctx), NULL), 0);
    IS_OVER(ctx, -ECANCELED, -EIO);
    weft_ctx_unref(ctx);
}

static void by_select(void *ctx)
{
    weft_case_t k[2] = {{.op = WEFT_RECV, .chan = NULL},
                        {.op = WEFT_RECV, .chan = weft_ctx_done(ctx)}};
    atomic_fetch_add(&count, 1);
    EQ(weft_select(k, 2, 0), 1);
    EQ(k[1].result, 0);
    IS_OVER(ctx, -ECANCELED, -EIO);
    weft_ctx_unref(ctx);
}

static void *by_thread(void *ctx)
{
    by_recv(ctx);
    weft_wg_done(&wg);
    return NULL;
}

/* Everyone is woken, coroutines and threads, however they wait. */
static void waiters_body(void)
{
    enum { EACH = 10 };
    pthread_t th[2];
    weft_ctx_t *top = WITH_CANCEL(BACKGROUND), *low = WITH_CANCEL(top);
    for (int i = 0; i < EACH; i++) {
        OK(weft_wg_go(&wg, by_recv, weft_ctx_ref(i % 2 == 0 ? low : top)) == 0);
        OK(weft_wg_go(&wg, by_select, weft_ctx_ref(i % 2 == 0 ? top : low)) == 0);
    }
    OK(weft_wg_add(&wg, 2) == 0);
    for (int i = 0; i < 2; i++)
        OK(pthread_create(&th[i], NULL, by_thread, weft_ctx_ref(low)) == 0);
    while (count < 2 * EACH + 2)
        weft_sleep(MS);
    weft_sleep(5 * MS);
    EQ(weft_ctx_cancel(top, -EIO), 0);
    OK(weft_wg_wait(&wg) == 0);
    for (int i = 0; i < 2; i++)
        pthread_join(th[i], NULL);
    weft_ctx_unref(top);
    weft_ctx_unref(low);
}

/* Go: TestSimultaneousCancels. Each waits for its own end, all end at once. */
static void ends(void *ctx)
{
    EQ(weft_ctx_cancel(ctx, 0), 0);
    EQ(weft_recv(weft_ctx_done(ctx), NULL), 0);
    weft_ctx_unref(ctx);
}

static void simultaneous_body(void)
{
    static weft_ctx_t *c[200];
    c[0] = WITH_CANCEL(BACKGROUND);
    for (int i = 1; i < 200; i++)
        c[i] = WITH_CANCEL(c[(i - 1) / 2]);
    for (int i = 0; i < 200; i++)
        OK(weft_wg_go(&wg, ends, weft_ctx_ref(c[i])) == 0);
    for (int i = 0; i < 200; i++)
        EQ(weft_recv(weft_ctx_done(c[i]), NULL), 0);
    OK(weft_wg_wait(&wg) == 0);
    unref_all(c, 200);
}

/* Go: TestInterlockedCancels. */
static void after_parent(void *child)
{
    EQ(weft_recv(weft_ctx_done(shared), NULL), 0);
    EQ(weft_ctx_cancel(child, 0), 0);
}

static void interlocked_body(void)
{
    for (int i = 0; i < 100; i++) {
        shared = WITH_CANCEL(BACKGROUND);
        weft_ctx_t *child = WITH_CANCEL(shared);
        OK(weft_wg_go(&wg, after_parent, child) == 0);
        if (i % 2 == 0)
            weft_yield();
        EQ(weft_ctx_cancel(shared, 0), 0);
        EQ(weft_recv(weft_ctx_done(child), NULL), 0);
        OK(weft_wg_wait(&wg) == 0);
        weft_ctx_unref(child);
        weft_ctx_unref(shared);
    }
}

/* The error is there exactly when the channel is closed, to whoever looks. */
static atomic_bool enough;
static _Atomic(weft_ctx_t *) watched;

static void watch(void *arg)
{
    bool err_first = arg != NULL;
    while (!enough) {
        weft_ctx_t *c = watched;
        if (err_first) {
            int err = weft_ctx_err(c);
            int closed = weft_try_recv(weft_ctx_done(c), NULL);
            OK(err == 0 || closed == 0);
        } else {
            int closed = weft_try_recv(weft_ctx_done(c), NULL);
            int err = weft_ctx_err(c), cause = weft_ctx_cause(c);
            OK(closed != 0 || (err == -ECANCELED && cause == -EIO));
        }
        weft_yield();
    }
}

static void both_body(void)
{
    enum { MANY = 2000 };
    static weft_ctx_t *c[MANY];
    enough = false;
    weft_ctx_t *top = WITH_CANCEL(BACKGROUND);
    for (int i = 0; i < MANY; i++)
        c[i] = WITH_CANCEL(i % 4 == 0 ? top : BACKGROUND);
    watched = c[0];
    for (int i = 0; i < 4; i++)
        OK(weft_wg_go(&wg, watch, i % 2 == 0 ? &enough : NULL) == 0);
    for (int i = 0; i < MANY; i++) {
        watched = c[i];
        weft_yield();
        EQ(weft_ctx_cancel(i == MANY / 2 ? top : c[i], -EIO), 0);
    }
    enough = true;
    OK(weft_wg_wait(&wg) == 0);
    unref_all(c, MANY);
    weft_ctx_unref(top);
}

/* Children come, are cancelled and go while their parents are cancelled. Go: XTestCancelRemoves, and the
 * races that its tests of custom contexts look for. */
static void breed(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg * 7919 + 3;
    for (int i = 0; i < 300; i++) {
        s = s * 1664525u + 1013904223u;
        weft_ctx_t *c = s >> 30 == 0 ? WITH_DEADLINE(shared, from_now((int64_t)(s >> 16)))
                                     : WITH_CANCEL(shared);
        weft_ctx_t *v = WITH_VALUE(c, &key1, i), *d = WITH_CANCEL(v);
        weft_ctx_unref(v);
        if (s % 8 == 0)
            EQ(weft_ctx_cancel(c, 0), 0);
        weft_ctx_unref(c);
        if (s % 4 == 0)
            weft_yield();
        if (weft_ctx_err(shared) != 0) /* it may still be on its way */
            EQ(weft_recv_until(weft_ctx_done(d), NULL, from_now(60 * SEC)), 0);
        weft_ctx_unref(d);
    }
}

static void breed_body(void)
{
    for (int round = 0; round < 10; round++) {
        shared = WITH_CANCEL(BACKGROUND);
        for (int i = 0; i < 8; i++)
            OK(weft_wg_go(&wg, breed, (void *)(intptr_t)(round * 8 + i)) == 0);
        for (int i = 0; i < round; i++)
            weft_yield();
        if (round % 2 == 0)
            EQ(weft_ctx_cancel(shared, 0), 0);
        OK(weft_wg_wait(&wg) == 0);
        weft_ctx_unref(shared);
    }
    EQ(timers(), 0);
}

/* ---- the end of a run --------------------------------------------------------------------------------------- */

static weft_ctx_t *kept[4];
static pthread_t homeless;
static atomic_bool waits;

static void *sent_home(void *done)
{
    waits = true;
    return (void *)(intptr_t)weft_recv(done, NULL);
}

static void left_waiting(void *ctx)
{
    weft_recv(weft_ctx_done(ctx), NULL);
}

static void end_body(void)
{
    waits = false;
    kept[0] = WITH_DEADLINE(BACKGROUND, from_now(HOURS));
    kept[1] = WITH_CANCEL(kept[0]);
    kept[2] = WITH_CANCEL(BACKGROUND);
    kept[3] = WITH_DEADLINE(kept[2], from_now(HOURS));
    for (int i = 0; i < 3; i++)
        go(left_waiting, kept[i]);
    weft_ctx_unref(kept[3]);
    kept[3] = WITH_DEADLINE(kept[2], from_now(2 * HOURS));
    OK(pthread_create(&homeless, NULL, sent_home, weft_ctx_done(kept[0])) == 0);
    while (!waits)
        weft_sleep(MS);
    weft_sleep(20 * MS);
}

static void next_body(void)
{
    CANCELED(kept[0]);
    CANCELED(kept[1]);
    IS_OPEN(kept[2]);
    CANCELED(kept[3]);
    go(left_waiting, kept[2]);
    weft_yield();
    EQ(weft_ctx_cancel(kept[2], -EIO), 0);
    IS_OVER(kept[2], -ECANCELED, -EIO);
}

START_TEST(end_of_run)
{
    void *rc;
    weft_ctx_t *c = WITH_CANCEL(BACKGROUND), *v = WITH_VALUE(c, &key1, 1);
    OK(weft_ctx_with_deadline(c, from_now(SEC)) == NULL); /* nobody keeps time */
    weft_ctx_t *past = WITH_DEADLINE(c, 1), *none = WITH_DEADLINE(v, 0);
    TIMED_OUT(past);
    IS_OPEN(none);
    reset();
    run(_i, end_body);
    pthread_join(homeless, &rc);
    OK((intptr_t)rc == -ECANCELED || rc == NULL); /* sent home, or told just before */
    CANCELED(kept[0]);
    IS_OPEN(kept[2]);
    run(_i, next_body);
    unref_all(kept, 4);
    EQ(weft_ctx_cancel(c, 0), 0);
    CANCELED(none);
    weft_ctx_unref(past);
    weft_ctx_unref(none);
    weft_ctx_unref(v);
    weft_ctx_unref(c);
}
END_TEST

/* --------------------------------------------------------------------------------------------------------------- */

static void (*const bodies[])(void) = {
    background_body,   bad_body,
    cancel_body,       values_body,
    done_kept_body,    parent_first_body,
    child_first_body,  nameless_body,
    layers_body,       chain_body,
    broad_body,        deadline_body,
    past_body,         canceled_deadline_body,
    dropped_body,      waiters_body,
    simultaneous_body, interlocked_body,
    both_body,         breed_body,
};
enum { BODIES = sizeof bodies / sizeof bodies[0] };

START_TEST(each)
{
    reset();
    run(_i % NPROCS, bodies[_i / NPROCS]);
}
END_TEST

int main(void)
{
    return run_bodies("ctx", each, BODIES, end_of_run);
}
