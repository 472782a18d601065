/* SPDX-License-Identifier: MIT
 *
 * contexts.c: the benchmarks of contexts, for the list in work.c: functions that do n operations. */
#include "bench.h"

enum { KIDS = 100, WAITERS = 10 };

static struct {
    weft_wg_t in, out;
} tree;

static void tree_waiter(void *ctx)
{
    weft_wg_done(&tree.in);
    weft_recv(weft_ctx_done(ctx), NULL);
    weft_wg_done(&tree.out);
}

/* An operation: a parent with 100 children, for ten of which a coroutine waits; cancel the parent, until all have
 * ended. */
void ctx_tree_run(int64_t n)
{
    weft_ctx_t *kid[KIDS];
    for (int64_t i = 0; i < n; i++) {
        weft_ctx_t *parent = weft_ctx_with_cancel(weft_ctx_background());
        for (int k = 0; k < KIDS; k++)
            kid[k] = weft_ctx_with_cancel(parent);
        weft_wg_add(&tree.in, WAITERS);
        weft_wg_add(&tree.out, WAITERS);
        for (int k = 0; k < WAITERS; k++)
            go(tree_waiter, kid[k * (KIDS / WAITERS)]);
        weft_wg_wait(&tree.in);
        weft_ctx_cancel(parent, 0);
        weft_wg_wait(&tree.out);
        check(weft_ctx_err(kid[KIDS - 1]) == -ECANCELED, "the error of a child");
        for (int k = 0; k < KIDS; k++)
            weft_ctx_unref(kid[k]);
        weft_ctx_unref(parent);
    }
}

/* The context of one request: below one that lives long, cancelled when the request is done. */
void ctx_cancel_run(int64_t n)
{
    weft_ctx_t *parent = weft_ctx_with_cancel(weft_ctx_background());
    for (int64_t i = 0; i < n; i++) {
        weft_ctx_t *ctx = weft_ctx_with_cancel(parent);
        weft_ctx_cancel(ctx, 0);
        weft_ctx_unref(ctx);
    }
    weft_ctx_unref(parent);
}

/* The same with a deadline an hour from now. */
void ctx_deadline_run(int64_t n)
{
    weft_ctx_t *parent = weft_ctx_with_cancel(weft_ctx_background());
    for (int64_t i = 0; i < n; i++) {
        weft_ctx_t *ctx = weft_ctx_with_deadline(parent, weft_now() + INT64_C(3600000000000));
        weft_ctx_cancel(ctx, 0);
        weft_ctx_unref(ctx);
    }
    weft_ctx_unref(parent);
}

void ctx_err_run(int64_t n)
{
    int64_t sum = 0;
    weft_ctx_t *ctx = weft_ctx_with_cancel(weft_ctx_background());
    for (int64_t i = 0; i < n; i++)
        sum += weft_ctx_err(ctx);
    check(sum == 0, "no error");
    weft_ctx_unref(ctx);
}

/* The value of the outermost of ten. */
void ctx_value_run(int64_t n)
{
    static const char key[10];
    weft_ctx_t *ctx = weft_ctx_ref(weft_ctx_background());
    for (int k = 0; k < 10; k++) {
        weft_ctx_t *inner = weft_ctx_with_value(ctx, &key[k], &tree);
        weft_ctx_unref(ctx);
        ctx = inner;
    }
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++)
        found += weft_ctx_value(ctx, &key[0]) == &tree;
    check(found == n, "the value");
    weft_ctx_unref(ctx);
}
