/* SPDX-License-Identifier: MIT
 *
 * group.c: groups, after golang.org/x/sync/errgroup.
 *
 * A group is a wait group that its coroutines count, a semaphore with the places there are, the first
 * error, and a context. What counts down hangs on the end of the coroutine (coro_finish(), G_GROUP),
 * not on the return of its function: one that leaves by weft_exit() counts as well. It gives its place
 * back first; after the count the group may be gone.
 *
 * The function is called through group_main(), which needs two words; the second lies in the G where later
 * its deadlines will be.
 *
 * The first error is the swap of err from 0. Who has made it cancels the context if there is one; who makes
 * the context cancels it if there is an error. Both orders are sequentially consistent: store err, load ctx
 * here, store ctx, load err there, so one of them sees the other. The context cannot go meanwhile: it goes
 * with the end of a wait, which comes after the end of all coroutines. */
#include "sync.h"

typedef struct {
    weft_wg_t wg;      /* what G.wg points to */
    weft_sem_t places; /* free ones, if there is a limit */
    int64_t limit;     /* places + 1; 0: none. Nobody else may use the group while it changes */
    _Atomic(weft_ctx_t *) ctx; /* (a) with a reference; or NULL */
    _Atomic int err;           /* (a) 0: none so far */
} Group;
_Static_assert(sizeof(Group) <= sizeof(weft_group_t), "weft_group_t holds a Group");
_Static_assert(offsetof(Group, wg) == 0, "G.wg points to the group");

static Group *group_of(weft_group_t *g)
{
    return (Group *)(void *)g;
}

/* ---- the first error ---- */

static void group_cancel(weft_ctx_t *ctx, int err)
{
    weft_ctx_cancel(ctx, err < 0 ? err : 0);
}

static void group_fail(Group *x, int err)
{
    int none = 0;
    if (!atomic_compare_exchange_strong(&x->err, &none, err))
        return;
    weft_ctx_t *ctx = atomic_load(&x->ctx);
    if (ctx != NULL)
        group_cancel(ctx, err);
}

weft_ctx_t *weft_group_context(weft_group_t *g)
{
    Group *x = group_of(g);
    weft_ctx_t *there, *ctx;
    if (g == NULL || (there = atomic_load(&x->ctx)) != NULL)
        return g != NULL ? there : NULL;
    if ((ctx = weft_ctx_with_cancel(weft_ctx_background())) == NULL)
        return NULL;
    if (!atomic_compare_exchange_strong(&x->ctx, &there, ctx)) {
        weft_ctx_unref(ctx);
        return there;
    }
    int err = atomic_load(&x->err);
    if (err != 0)
        group_cancel(ctx, err);
    return ctx;
}

/* ---- coroutines ---- */

static void group_main(void *arg)
{
    M *m = rt_enter();
    int (*fn)(void *) = m->g->group_fn;
    Group *x = (Group *)(void *)m->g->wg;
    rt_leave(m);
    int err = fn(arg);
    if (err != 0)
        group_fail(x, err);
}

void group_leave(weft_wg_t *wg)
{
    Group *x = (Group *)(void *)wg;
    if (x->limit != 0)
        weft_sem_release(&x->places, 1);
}

static int group_spawn(M *m, Group *x, int (*fn)(void *), void *arg, void *pc)
{
    G *g;
    if (!get_acq(&sched.active))
        return -EPERM;
    int rc = coro_spawn(m, NULL, group_main, arg, pc, &g);
    if (rc != 0)
        return rc;
    weft_wg_add(&x->wg, 1);
    g->wg = &x->wg;
    g->group_fn = fn;
    g->flags |= G_GROUP;
    sched_ready(m, g);
    return 0;
}

static int group_go(weft_group_t *g, int (*fn)(void *), void *arg, int64_t deadline, void *pc)
{
    if (g == NULL || fn == NULL)
        return -EINVAL;
    Group *x = group_of(g);
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    window_refuse(m, g, "weft_group_t");
    int rc = 0;
    if (x->limit != 0) {
        rt_leave(m);
        if ((rc = weft_sem_acquire_until(&x->places, 1, deadline)) != 0)
            return rc;
        m = rt_enter(); /* it has one by now */
    }
    if ((rc = group_spawn(m, x, fn, arg, pc)) == 0)
        m = chaos_yield(m, 4);
    else if (x->limit != 0)
        weft_sem_release(&x->places, 1);
    rt_leave(m);
    return rc;
}

int weft_group_go(weft_group_t *g, int (*fn)(void *), void *arg)
{
    return group_go(g, fn, arg, 0, __builtin_return_address(0));
}

int weft_group_go_until(weft_group_t *g, int (*fn)(void *), void *arg, int64_t deadline)
{
    return group_go(g, fn, arg, deadline, __builtin_return_address(0));
}

/* Free: no coroutine is counted, and nobody waits for a place. */
static bool group_is_idle(Group *x)
{
    static const int64_t past = 1;
    return weft_wg_wait_until(&x->wg, past) == 0 &&
           (x->limit == 0 || weft_sem_try_acquire(&x->places, x->limit - 1) == 0);
}

int weft_group_limit(weft_group_t *g, int n)
{
    if (g == NULL)
        return -EINVAL;
    Group *x = group_of(g);
    if (!group_is_idle(x))
        return -EBUSY;
    x->limit = n < 0 ? 0 : (int64_t)n + 1;
    return weft_sem_init(&x->places, n < 0 ? 0 : n);
}

/* ---- waiting ---- */

int weft_group_wait_until(weft_group_t *g, int64_t deadline)
{
    if (g == NULL)
        return -EINVAL;
    Group *x = group_of(g);
    int rc = sync_attach(); /* for the end of the context */
    if (rc == 0)
        rc = weft_wg_wait_until(&x->wg, deadline);
    if (rc != 0)
        return rc;
    weft_ctx_t *ctx = atomic_exchange(&x->ctx, NULL);
    if (ctx != NULL) {
        weft_ctx_cancel(ctx, 0);
        weft_ctx_unref(ctx);
    }
    return atomic_load(&x->err);
}

int weft_group_wait(weft_group_t *g)
{
    return weft_group_wait_until(g, 0);
}
