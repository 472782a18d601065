/* SPDX-License-Identifier: MIT
 *
 * check_group.c: groups behave as golang.org/x/sync/errgroup does.
 *
 * A test's body runs as the main coroutine on 1, 2 and 4 processors. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "behaviour.h"

static weft_group_t group;
static weft_wg_t wg;
static weft_chan_t *gate;
static atomic_int count, active;

static void reset(void)
{
    memset(&group, 0, sizeof group);
    memset(&wg, 0, sizeof wg);
    count = active = 0;
    gate = NULL;
}

static void again(void)
{
    memset(&group, 0, sizeof group);
}

/* A function that has this result. */
static int result(void *arg)
{
    atomic_fetch_add(&count, 1);
    return (int)(intptr_t)arg;
}

static void start(int (*fn)(void *), intptr_t arg)
{
    EQ(weft_group_go(&group, fn, (void *)arg), 0);
}

static int at_gate(void *arg)
{
    EQ(weft_recv(gate, NULL), 0);
    return result(arg);
}

/* ---- errors ---------------------------------------------------------------------------------- */

/* Go: TestZeroGroup. The first error, in whatever order the others come. */
static void zero_body(void)
{
    static const int errs[][3] = {{0, 0, 0},          {-EIO, 0, 0},    {0, -EIO, 0},
                                  {0, -EIO, -ENOENT}, {-EIO, 0, -EIO}, {0, 0, 7}};
    EQ(weft_group_wait(&group), 0); /* of nothing */
    for (int i = 0; i < 6; i++) {
        int first = 0;
        again();
        for (int k = 0; k < 3; k++) {
            start(result, errs[i][k]);
            first = first != 0 ? first : errs[i][k];
            EQ(weft_group_wait(&group), first); /* and again */
        }
        EQ(weft_group_wait(&group), first);
    }
    EQ(count, 18);
}

static void bad_body(void)
{
    EQ(weft_group_go(NULL, result, NULL), -EINVAL);
    EQ(weft_group_go(&group, NULL, NULL), -EINVAL);
    EQ(weft_group_go_until(&group, NULL, NULL, 1), -EINVAL);
    EQ(weft_group_wait(NULL), -EINVAL);
    EQ(weft_group_wait_until(NULL, 1), -EINVAL);
    EQ(weft_group_limit(NULL, 1), -EINVAL);
    OK(weft_group_context(NULL) == NULL);
    EQ(weft_group_wait(&group), 0);
    weft_group_t zero = {{0}};
    OK(memcmp(&group, &zero, sizeof zero) == 0);
}

/* Go: TestWithContext, TestCancelCause. Without an error the context ends with the wait. */
static void context_body(void)
{
    static const int errs[][2] = {{0, 0}, {-EIO, 0}, {0, -EIO}, {5, 0}};
    static const int cause[] = {-ECANCELED, -EIO, -EIO, -ECANCELED};
    for (int i = 0; i < 4; i++) {
        again();
        weft_ctx_t *c = weft_group_context(&group);
        OK(c != NULL && weft_group_context(&group) == c);
        EQ(weft_ctx_err(c), 0);
        weft_ctx_ref(c);
        start(result, errs[i][0]);
        start(result, errs[i][1]);
        if (i > 0)
            EQ(weft_recv(weft_ctx_done(c), NULL), 0);
        EQ(weft_group_wait(&group), errs[i][0] | errs[i][1]);
        EQ(weft_recv(weft_ctx_done(c), NULL), 0);
        EQ(weft_ctx_err(c), -ECANCELED);
        EQ(weft_ctx_cause(c), cause[i]);
        weft_ctx_unref(c);
    }
}

/* Made late, it knows of the error that came before. */
static void late_context_body(void)
{
    start(result, -EIO);
    while (count < 1)
        weft_yield();
    weft_sleep(MS);
    weft_ctx_t *c = weft_group_context(&group);
    OK(c != NULL);
    EQ(weft_recv(weft_ctx_done(c), NULL), 0);
    EQ(weft_ctx_cause(c), -EIO);
    EQ(weft_group_wait(&group), -EIO);
}

/* Nobody is stopped: each ends when it looks. */
static int until_cancelled(void *ctx)
{
    atomic_fetch_add(&active, 1);
    EQ(weft_sleep(MS), 0);
    EQ(weft_recv(weft_ctx_done(ctx), NULL), 0);
    EQ(weft_sleep(MS), 0); /* still not */
    atomic_fetch_add(&count, 1);
    return weft_ctx_cause(ctx) == -EIO ? -ENOENT : -EBADF;
}

static void watch_body(void)
{
    weft_ctx_t *c = weft_group_context(&group);
    for (int i = 0; i < 20; i++)
        EQ(weft_group_go(&group, until_cancelled, c), 0);
    while (active < 20)
        weft_yield();
    EQ(count, 0);
    start(result, -EIO);
    EQ(weft_group_wait(&group), -EIO);
    EQ(count, 21);
}

/* ---- the limit ----------------------------------------------------------------------------------- */

enum { LIMIT = 3 };

static int few(void *arg)
{
    OK(atomic_fetch_add(&active, 1) < LIMIT);
    weft_sleep((intptr_t)arg % 3 * 20 * US);
    atomic_fetch_sub(&active, 1);
    atomic_fetch_add(&count, 1);
    return 0;
}

/* Go: TestGoLimit. */
static void limit_body(void)
{
    EQ(weft_group_limit(&group, LIMIT), 0);
    for (int i = 0; i < 300; i++)
        start(few, i);
    EQ(weft_group_wait(&group), 0);
    EQ(count, 300);
    EQ(weft_group_limit(&group, -1), 0); /* as at first */
    gate = weft_chan_make(0, 0);
    for (int i = 0; i < 100; i++)
        start(at_gate, 0);
    EQ(weft_chan_close(gate), 0);
    EQ(weft_group_wait(&group), 0);
    weft_chan_unref(gate);
}

/* Go: TestTryGo. At the limit it waits, and not longer than it was told. */
static void full_body(void)
{
    gate = weft_chan_make(0, 0);
    EQ(weft_group_limit(&group, LIMIT), 0);
    for (int i = 0; i < LIMIT; i++)
        EQ(weft_group_go_until(&group, at_gate, NULL, 1), 0);
    EQ(weft_group_go_until(&group, result, NULL, 1), -ETIMEDOUT);
    int64_t until = from_now(5 * MS);
    EQ(weft_group_go_until(&group, result, NULL, until), -ETIMEDOUT);
    OK(weft_now() >= until);
    EQ(weft_group_limit(&group, LIMIT + 1), -EBUSY);
    EQ(weft_group_limit(&group, -1), -EBUSY);
    EQ(weft_group_wait_until(&group, 1), -ETIMEDOUT);
    EQ(weft_group_wait_until(&group, from_now(5 * MS)), -ETIMEDOUT);
    EQ(count, 0);
    EQ(weft_chan_close(gate), 0);
    start(result, 0);
    EQ(weft_group_wait_until(&group, from_now(60 * SEC)), 0);
    EQ(count, LIMIT + 1);
    EQ(weft_group_limit(&group, 1), 0);
    EQ(weft_group_go_until(&group, result, NULL, 1), 0);
    EQ(weft_group_wait(&group), 0);
    weft_chan_unref(gate);
}

/* Without a limit too. */
static void busy_body(void)
{
    gate = weft_chan_make(0, 0);
    weft_ctx_t *c = weft_group_context(&group);
    start(at_gate, 0);
    EQ(weft_group_limit(&group, 5), -EBUSY);
    EQ(weft_group_wait_until(&group, 1), -ETIMEDOUT);
    EQ(weft_ctx_err(c), 0); /* nothing has changed */
    OK(weft_group_context(&group) == c);
    EQ(weft_chan_close(gate), 0);
    EQ(weft_group_wait(&group), 0);
    EQ(weft_group_limit(&group, 5), 0);
    weft_chan_unref(gate);
}

static void starter(void *arg)
{
    (void)arg;
    EQ(weft_group_go_until(&group, result, NULL, from_now(20 * MS)), -ETIMEDOUT);
}

static void none_body(void)
{
    EQ(weft_group_limit(&group, 0), 0);
    EQ(weft_group_go_until(&group, result, NULL, 1), -ETIMEDOUT);
    EQ(weft_wg_go(&wg, starter, NULL), 0);
    EQ(weft_wg_wait(&wg), 0);
    EQ(weft_group_wait(&group), 0);
    EQ(weft_group_limit(&group, 1), 0);
    start(result, 0);
    EQ(weft_group_wait(&group), 0);
    EQ(count, 1);
}

/* ---- from within, and from without ----------------------------------------------------------------- */

static int tree(void *arg)
{
    intptr_t depth = (intptr_t)arg;
    atomic_fetch_add(&count, 1);
    if (depth == 0)
        return 0;
    start(tree, depth - 1);
    start(tree, depth - 1);
    return 0;
}

static void tree_body(void)
{
    for (int round = 1; round <= 5; round++) {
        start(tree, 8);
        EQ(weft_group_wait(&group), 0);
        EQ(count, round * 511);
    }
}

static void *foreign(void *arg)
{
    for (intptr_t i = 0; i < 200; i++)
        start(few, i);
    if (arg != NULL)
        weft_wg_done(arg);
    return NULL;
}

static void *foreign_wait(void *arg)
{
    EQ(weft_group_wait(&group), 0);
    weft_wg_done(arg);
    return NULL;
}

static void foreign_body(void)
{
    pthread_t th[3];
    EQ(weft_group_limit(&group, LIMIT), 0);
    EQ(weft_wg_add(&wg, 2), 0);
    for (int i = 0; i < 2; i++)
        OK(pthread_create(&th[i], NULL, foreign, &wg) == 0);
    foreign(NULL);
    EQ(weft_wg_wait(&wg), 0);
    EQ(weft_wg_add(&wg, 1), 0);
    OK(pthread_create(&th[2], NULL, foreign_wait, &wg) == 0);
    EQ(weft_group_wait(&group), 0);
    EQ(weft_wg_wait(&wg), 0);
    EQ(count, 600);
    for (int i = 0; i < 3; i++)
        pthread_join(th[i], NULL);
}

/* Many errors at once: one of them counts, and it is the cause. */
static int fails(void *arg)
{
    weft_yield();
    return -1 - (int)(intptr_t)arg;
}

static void many_errors_body(void)
{
    for (int round = 0; round < 100; round++) {
        again();
        weft_ctx_t *c = weft_ctx_ref(weft_group_context(&group));
        for (int i = 0; i < 8; i++)
            start(fails, i);
        int err = weft_group_wait(&group);
        OK(err < 0 && err >= -8);
        EQ(weft_ctx_cause(c), err);
        weft_ctx_unref(c);
    }
}

/* Its last user may free it. */
static int nap(void *arg)
{
    (void)arg;
    weft_sleep(10 * US);
    return 0;
}

static void freed_body(void)
{
    for (int i = 0; i < 500; i++) {
        weft_group_t *g = calloc(1, sizeof *g);
        if (i % 2 == 0)
            EQ(weft_group_limit(g, 2), 0);
        for (int k = 0; k < 4; k++)
            EQ(weft_group_go(g, i % 3 == 0 ? nap : result, NULL), 0);
        EQ(weft_group_wait(g), 0);
        memset(g, 0x5a, sizeof *g);
        free(g);
    }
}

/* ---- the end of a run ---------------------------------------------------------------------------------- */

static pthread_t homeless;
static atomic_bool waits;

static void *sent_home(void *arg)
{
    (void)arg;
    waits = true;
    return (void *)(intptr_t)weft_group_wait(&group);
}

static void end_body(void)
{
    waits = false;
    gate = weft_chan_make(0, 0);
    start(at_gate, 0);
    OK(pthread_create(&homeless, NULL, sent_home, NULL) == 0);
    while (!waits)
        weft_sleep(MS);
    weft_sleep(20 * MS);
}

START_TEST(end_of_run)
{
    void *rc;
    reset();
    EQ(weft_group_go(&group, result, NULL), -EPERM);
    EQ(weft_group_limit(&group, 1), 0);
    EQ(weft_group_go(&group, result, NULL), -EPERM);
    EQ(weft_group_go_until(&group, result, NULL, 1), -EPERM); /* its place was given back */
    EQ(weft_group_wait(&group), 0);
    reset();
    run(_i, end_body);
    pthread_join(homeless, &rc);
    EQ((intptr_t)rc, -ECANCELED);
    EQ(weft_group_wait(&group), -EPERM);
    weft_chan_unref(gate);
}
END_TEST

/* -------------------------------------------------------------------------------------------------------- */

static void (*const bodies[])(void) = {
    zero_body, bad_body,  context_body, late_context_body, watch_body,       limit_body, full_body,
    busy_body, none_body, tree_body,    foreign_body,      many_errors_body, freed_body,
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
    return run_bodies("group", each, BODIES, end_of_run);
}
