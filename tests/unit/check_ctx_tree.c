/* SPDX-License-Identifier: MIT
 *
 * check_ctx_tree.c: coroutines that are bound to contexts: cancelled with them, once, unless they are unbound.
 *
 * cancel_coroutine() is ours (--wrap), and only notes whom it was to cancel. What is bound lies on the heap and
 * is freed as soon as it is unbound. */
#include "rt.h"
#include "tests/behaviour/behaviour.h"

enum { MOST = 4096 };
static _Atomic int told[MOST];
static _Atomic int calls;

int __wrap_cancel_coroutine(M *m, uint64_t id);
int __wrap_cancel_coroutine(M *m, uint64_t id)
{
    OK(m != NULL && id < MOST);
    atomic_fetch_add(&told[id], 1);
    atomic_fetch_add(&calls, 1);
    return 0;
}

static int bind_to(weft_ctx_t *ctx, CtxCoro **co, uint64_t id)
{
    M *m = rt_enter();
    *co = malloc(sizeof **co);
    int rc = ctx_bind(m, ctx, *co, id);
    rt_leave(m);
    return rc;
}

static void let_go(CtxCoro *co)
{
    M *m = rt_enter();
    ctx_unbind(m, co);
    ctx_unbind(m, co); /* harmless */
    rt_leave(m);
    free(co);
}

static weft_ctx_t *top, *level[4];

static void make_tree(void)
{
    static const char key;
    for (int i = 0; i < MOST; i++)
        told[i] = 0;
    calls = 0;
    top = weft_ctx_with_cancel(weft_ctx_background());
    level[0] = weft_ctx_with_value(top, &key, NULL);
    level[1] = weft_ctx_with_cancel(level[0]);
    level[2] = weft_ctx_with_deadline(level[1], from_now(3600 * SEC));
    level[3] = weft_ctx_with_value(level[2], &key, NULL);
    OK(level[3] != NULL);
}

static void drop_tree(void)
{
    for (int i = 0; i < 4; i++)
        weft_ctx_unref(level[i]);
    weft_ctx_unref(top);
}

/* On all levels, some of them unbound before, some again afterwards. */
static void tree_body(void)
{
    enum { N = 500 };
    static CtxCoro *co[N];
    make_tree();
    for (int i = 0; i < N; i++)
        EQ(bind_to(level[i % 4], &co[i], (uint64_t)i), 0);
    for (int i = 0; i < N; i += 3)
        let_go(co[i]);
    EQ(weft_ctx_cancel(level[1], -EIO), 0); /* not those of level 0 */
    EQ(weft_ctx_cancel(level[2], -EIO), 0);
    for (int i = 0; i < N; i++)
        EQ(told[i], i % 3 != 0 && i % 4 != 0);
    EQ(weft_ctx_cancel(top, 0), 0);
    for (int i = 0; i < N; i++)
        EQ(told[i], i % 3 != 0);
    for (int i = 0; i < N; i++)
        if (i % 3 != 0)
            let_go(co[i]);
    drop_tree();
}

/* What cannot be cancelled, and what is already. */
static void odd_body(void)
{
    CtxCoro *co;
    make_tree();
    EQ(bind_to(weft_ctx_background(), &co, 1), 0);
    let_go(co);
    EQ(weft_ctx_cancel(level[2], -EIO), 0);
    EQ(bind_to(level[3], &co, 2), -ECANCELED);
    let_go(co);
    weft_ctx_t *past = weft_ctx_with_deadline(top, 1);
    EQ(bind_to(past, &co, 3), -ETIMEDOUT);
    let_go(co);
    weft_ctx_unref(past);
    EQ(calls, 0);
    drop_tree();
}

/* A bound coroutine keeps its context. */
static void keeps_body(void)
{
    CtxCoro *co[2];
    make_tree();
    weft_ctx_t *low = weft_ctx_with_cancel(level[3]);
    weft_ctx_t *late = weft_ctx_with_deadline(low, from_now(5 * MS));
    EQ(bind_to(low, &co[0], 1), 0);
    int rc = bind_to(late, &co[1], 2);
    OK(rc == 0 || rc == -ETIMEDOUT);
    weft_ctx_unref(low);
    weft_ctx_unref(late);
    while (rc == 0 && told[2] == 0)
        weft_sleep(MS);
    EQ(told[1], 0);
    EQ(weft_ctx_cancel(top, 0), 0);
    EQ(told[1], 1);
    EQ(told[2], rc == 0);
    let_go(co[1]);
    let_go(co[0]);
    drop_tree();
}

/* They come and go while everything is cancelled. */
static weft_wg_t wg;

static void come_and_go(void *arg)
{
    uint64_t first = (uint64_t)(uintptr_t)arg * 100;
    for (uint64_t id = first; id < first + 100; id++) {
        CtxCoro *co;
        int rc = bind_to(level[id % 4], &co, id);
        OK(rc == 0 || rc == -ECANCELED);
        if (id % 4 == 0)
            weft_yield();
        if (rc == 0 && id % 16 == 0) /* this one is told, sooner or later */
            while (told[id] == 0)
                weft_yield();
        let_go(co);
    }
}

static void race_body(void)
{
    for (int round = 0; round < 10; round++) {
        make_tree();
        memset(&wg, 0, sizeof wg);
        for (uintptr_t i = 0; i < 8; i++)
            EQ(weft_wg_go(&wg, come_and_go, (void *)i), 0);
        for (int i = 0; i < round * 3; i++)
            weft_yield();
        EQ(weft_ctx_cancel(level[1], 0), 0);
        weft_yield();
        EQ(weft_ctx_cancel(top, 0), 0);
        EQ(weft_wg_wait(&wg), 0);
        for (int i = 0; i < MOST; i++)
            OK(told[i] <= 1);
        drop_tree();
    }
}

static void (*const bodies[])(void) = {tree_body, odd_body, keeps_body, race_body};
enum { BODIES = sizeof bodies / sizeof bodies[0] };

START_TEST(each)
{
    run(_i % NPROCS, bodies[_i / NPROCS]);
}
END_TEST

/* The end of a run: nobody is told, nothing is lost. */
static CtxCoro *left;

static void end_body(void)
{
    make_tree();
    EQ(bind_to(level[3], &left, 1), 0);
    let_go(left);
}

START_TEST(end_of_run)
{
    run(_i, end_body);
    EQ(calls, 0);
    EQ(weft_ctx_err(level[3]), -ECANCELED); /* its deadline */
    EQ(weft_ctx_err(level[1]), 0);
    drop_tree();
}
END_TEST

int main(void)
{
    return run_bodies("ctx_tree", each, BODIES, end_of_run);
}
