/* SPDX-License-Identifier: MIT
 *
 * ctx.c: contexts, after Go's context.
 *
 * A *scope* is a context that can be cancelled. Contexts that only carry a value, and the background, have
 * none of their own: what is asked of them is answered by the nearest scope above, if there is one.
 * A scope lies behind its channel in one block: who has a reference to the channel keeps the memory, not the
 * scope.
 *
 * References. A child has one to its parent; a bound coroutine (ctx.h), a pending deadline and whoever is
 * about to cancel the scope have one to the scope. The list in which a scope finds what is cancelled
 * with it has none: a scope without references takes itself out, under the lock of the one above, which
 * its own reference keeps. Who cancels takes references out of that list under the same lock, and
 * leaves alone what is going (ref_take_found).
 *
 * Who writes what. err and cause change once, under the scope's lock, before the channel is closed under
 * it. Everybody else asks the channel: it is closed, so both are there (set_rel in chan_shut() pairs with
 * the acquire in scope_over()). So who has seen the end by the channel sees it by weft_ctx_err(), and the
 * other way round. The rest is constant once the context is known.
 *
 * Nobody is forgotten. Who joins a list looks at err under its lock, who cancels sets err under it before
 * he empties the list: one sees the other. The list is emptied in batches, as it may be long and a lock
 * must not be held for long; after the first nobody joins any more. A tree is walked in breadth, by a queue
 * through the nodes that were taken out: its depth costs no stack.
 *
 * The deadline. The scope's own timer is armed under its lock, if it has not been cancelled by then; who
 * cancels disarms it after that. A deadline that is not before that of the parent needs none. At the
 * end of a run timers vanish: what they were to cancel would wait for ever, so it is cancelled (timer_free()).
 *
 * Lock: RANK_CTX, one at a time; under it a channel's, or a timer heap's. Coroutines are woken and cancelled
 * after the unlock. */
#include "chan.h"
#include "refs.h"
#include "sync.h"

enum { BATCH = 64 };

enum Kind { CTX_BACKGROUND, CTX_VALUE, CTX_SCOPE, CTX_TIMED };

struct weft_ctx {
    Refs refs;          /* (a) */
    weft_ctx_t *parent; /* (c) with a reference; NULL: it is the background */
    CtxScope *scope;    /* (c) itself or the nearest above; NULL: none */
    enum Kind kind;     /* (c) */
};

typedef struct {
    weft_ctx_t ctx;
    const void *key; /* (c) */
    void *value;     /* (c) */
} CtxValue;

struct CtxScope {
    weft_ctx_t ctx;
    Lock lock;
    int err, cause;    /* (l) -errno; who has seen done closed may read them */
    weft_chan_t *done; /* (c) */
    int64_t deadline;  /* (c) the earliest of its own and those above; INT64_MAX: none */
    CtxNode node;      /* in the list of the scope above */
    CtxNode kids;      /* (l) a ring: what is cancelled with it */
};

typedef struct {
    CtxScope scope;
    Timer timer;
} CtxTimed;

static weft_ctx_t background;

/* Scopes to be cancelled, each with a reference: a queue by node.next. */
typedef struct {
    CtxNode *head, *tail;
} CtxQueue;

/* ---- lists; the scope's lock is held ---- */

static void node_link(CtxScope *s, CtxNode *node)
{
    node->next = &s->kids;
    node->prev = s->kids.prev;
    node->prev->next = s->kids.prev = node;
    set(&node->linked, true);
}

/* The last touch of a node that nobody holds. */
static void node_unlink(CtxNode *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    set_rel(&node->linked, false); /* pairs with node_leave() */
}

/* Lock not held: its owner takes node out of s, if nobody has. */
static void node_leave(M *m, CtxScope *s, CtxNode *node)
{
    if (!get_acq(&node->linked))
        return;
    lock_acquire(m, &s->lock, RANK_CTX);
    if (get(&node->linked))
        node_unlink(node);
    lock_release(&s->lock);
}

/* ---- references ---- */

static CtxScope *scope_above(const CtxScope *s)
{
    return s->ctx.parent->scope;
}

static TimerHead *ctx_timer(weft_ctx_t *ctx)
{
    return ctx->kind == CTX_TIMED ? &container_of(ctx, CtxTimed, scope.ctx)->timer.head : NULL;
}

static void ctx_take(weft_ctx_t *ctx)
{
    if (ctx->kind != CTX_BACKGROUND)
        ref_take(&ctx->refs);
}

static void ctx_free(M *m, weft_ctx_t *ctx)
{
    if (ctx->kind == CTX_VALUE) {
        rt_free(container_of(ctx, CtxValue, ctx));
        return;
    }
    CtxScope *s = ctx->scope;
    node_leave(m, scope_above(s), &s->node);
    chan_release(m, s->done);
}

/* Drop a reference, and those that went with it. */
static void ctx_drop(M *m, weft_ctx_t *ctx)
{
    while (ctx->kind != CTX_BACKGROUND && ref_drop(m, &ctx->refs, ctx_timer(ctx))) {
        weft_ctx_t *parent = ctx->parent;
        ctx_free(m, ctx);
        ctx = parent;
    }
}

/* ---- the end of a scope ---- */

static bool scope_over(const CtxScope *s)
{
    return s != NULL && get_acq(&s->done->closed);
}

static void queue_put(CtxQueue *q, CtxNode *node)
{
    node->next = NULL;
    *(q->head != NULL ? &q->tail->next : &q->head) = node;
    q->tail = node;
}

static CtxScope *queue_get(CtxQueue *q)
{
    CtxNode *node = q->head;
    if (node == NULL)
        return NULL;
    q->head = node->next;
    return container_of(node, CtxScope, node);
}

/* s alone. False: it was over before. kids: there is a list to empty. One that is empty now stays so. */
static bool scope_end(M *m, CtxScope *s, int err, int cause, bool *kids)
{
    GList ready = {NULL, NULL};
    lock_acquire(m, &s->lock, RANK_CTX);
    bool first = s->err == 0;
    if (first) {
        s->err = err;
        s->cause = cause;
        chan_shut(m, s->done, &ready);
    }
    *kids = first && s->kids.next != &s->kids;
    lock_release(&s->lock);
    sched_ready_list(m, ready.head);
    TimerHead *timer = ctx_timer(&s->ctx);
    if (first && timer != NULL && timer_del(m, timer))
        ctx_drop(m, &s->ctx); /* the timer's; the caller has another one */
    return first;
}

/* s is over: some of its list, the scopes to q. True: there are more. */
static bool scope_take_some(M *m, CtxScope *s, CtxQueue *q)
{
    uint64_t id[BATCH];
    uint32_t n = 0;
    lock_acquire(m, &s->lock, RANK_CTX);
    for (int i = 0; i < BATCH && s->kids.next != &s->kids; i++) {
        CtxNode *node = s->kids.next;
        CtxScope *kid = container_of(node, CtxScope, node);
        bool found = !node->coro && ref_take_found(&kid->ctx.refs);
        if (node->coro)
            id[n++] = container_of(node, CtxCoro, node)->id;
        node_unlink(node); /* gone, unless it was found */
        if (found)
            queue_put(q, node);
    }
    bool more = s->kids.next != &s->kids;
    lock_release(&s->lock);
    for (uint32_t i = 0; i < n; i++)
        cancel_coroutine(m, id[i]);
    return more;
}

/* Inside the runtime nobody is stopped, and a tree may be large: come out for a moment. */
static void scope_breathe(M *m)
{
    rt_leave(m);
    (void)rt_enter(); /* the same M: the caller does not park */
}

static void scope_end_kids(M *m, CtxScope *s, CtxQueue *q)
{
    sync_dawdle(m);
    while (scope_take_some(m, s, q))
        ;
}

/* s and all below it. The caller has a reference, and, if it may breathe, is a public function. */
static void scope_cancel(M *m, CtxScope *s, int err, int cause, bool breathe)
{
    CtxQueue q = {NULL, NULL};
    uint32_t n = 0;
    bool kids;
    if (!scope_end(m, s, err, cause, &kids))
        return;
    if (scope_above(s) != NULL)
        node_leave(m, scope_above(s), &s->node);
    if (kids)
        scope_end_kids(m, s, &q);
    for (CtxScope *kid; (kid = queue_get(&q)) != NULL; ctx_drop(m, &kid->ctx)) {
        (void)scope_end(m, kid, err, cause, &kids);
        if (kids)
            scope_end_kids(m, kid, &q);
        if (breathe && ++n % BATCH == 0)
            scope_breathe(m);
    }
}

/* ---- the deadline ---- */

static void timed_fire(M *m, Timer *copy)
{
    CtxTimed *t = copy->arg;
    scope_cancel(m, &t->scope, -ETIMEDOUT, -ETIMEDOUT, false);
    ctx_drop(m, &t->scope.ctx); /* the timer's */
}

static void timed_vanish(void *arg)
{
    CtxTimed *t = arg;
    M *m = arch_self();
    scope_cancel(m, &t->scope, -ECANCELED, -ECANCELED, false);
    ctx_drop(m, &t->scope.ctx);
}

/* t is in its tree and may be over by now. -ENOMEM */
static int timed_arm(M *m, CtxTimed *t)
{
    int rc = 0;
    t->timer.head.fire = timed_fire;
    t->timer.fn = timed_vanish;
    t->timer.arg = t;
    lock_acquire(m, &t->scope.lock, RANK_CTX);
    if (t->scope.err == 0) {
        ref_take(&t->scope.ctx.refs);
        rc = timer_add(m, &t->timer.head, t->scope.deadline);
    }
    lock_release(&t->scope.lock);
    if (rc < 0)
        ctx_drop(m, &t->scope.ctx);
    return rc;
}

/* ---- a new one ---- */

static void ctx_init(weft_ctx_t *ctx, weft_ctx_t *parent, enum Kind kind)
{
    set(&ctx->refs, 1);
    ctx_take(parent);
    ctx->parent = parent;
    ctx->scope = parent->scope;
    ctx->kind = kind;
}

/* In its tree. It may be cancelled at once, with what is above. NULL: no memory. */
static CtxScope *scope_new(M *m, weft_ctx_t *parent, enum Kind kind, int64_t deadline)
{
    size_t size = kind == CTX_TIMED ? sizeof(CtxTimed) : sizeof(CtxScope);
    weft_chan_t *done = chan_new(0, 0, size);
    if (done == NULL)
        return NULL;
    CtxScope *s = (CtxScope *)(void *)done->buf;
    memset(s, 0, size);
    ctx_init(&s->ctx, parent, kind);
    s->ctx.scope = s;
    s->done = done;
    s->deadline = deadline;
    s->kids.next = s->kids.prev = &s->kids;

    CtxScope *above = parent->scope;
    if (above == NULL)
        return s;
    lock_acquire(m, &above->lock, RANK_CTX);
    int err = above->err, cause = above->cause;
    if (err == 0)
        node_link(above, &s->node);
    lock_release(&above->lock);
    bool kids;
    if (err != 0)
        scope_end(m, s, err, cause, &kids); /* nobody else has it: no kids */
    return s;
}
_Static_assert(offsetof(weft_chan_t, buf) % _Alignof(CtxTimed) == 0, "a scope lies in buf");

static int64_t deadline_of(const weft_ctx_t *ctx)
{
    return ctx->scope != NULL ? ctx->scope->deadline : INT64_MAX;
}

/* Before that of parent. NULL: no memory, or no run to keep time. */
static CtxScope *timed_new(M *m, weft_ctx_t *parent, int64_t deadline)
{
    bool past = deadline <= sys_now();
    if (!past && !get_acq(&sched.active))
        return NULL;
    CtxScope *s = scope_new(m, parent, past ? CTX_SCOPE : CTX_TIMED, deadline);
    if (s == NULL)
        return NULL;
    if (past) {
        scope_cancel(m, s, -ETIMEDOUT, -ETIMEDOUT, false);
    } else if (timed_arm(m, container_of(s, CtxTimed, scope)) < 0) {
        ctx_drop(m, &s->ctx);
        return NULL;
    }
    return s;
}

/* ---- for the runtime ---- */

int ctx_bind(M *m, weft_ctx_t *ctx, CtxCoro *co, uint64_t id)
{
    CtxScope *s = ctx->scope;
    *co = (CtxCoro){.node.coro = true, .id = id};
    if (s == NULL)
        return 0;
    ref_take(&s->ctx.refs);
    lock_acquire(m, &s->lock, RANK_CTX);
    int err = s->err;
    if (err == 0) {
        co->scope = s;
        node_link(s, &co->node);
    }
    lock_release(&s->lock);
    if (err != 0)
        ctx_drop(m, &s->ctx);
    return err;
}

void ctx_unbind(M *m, CtxCoro *co)
{
    CtxScope *s = co->scope;
    if (s == NULL)
        return;
    co->scope = NULL;
    node_leave(m, s, &co->node);
    ctx_drop(m, &s->ctx);
}

/* ---- the public interface ---- */

weft_ctx_t *weft_ctx_background(void)
{
    return &background;
}

weft_ctx_t *weft_ctx_with_cancel(weft_ctx_t *parent)
{
    M *m = parent != NULL ? rt_enter() : NULL;
    if (m == NULL)
        return NULL;
    CtxScope *s = scope_new(m, parent, CTX_SCOPE, deadline_of(parent));
    rt_leave(m);
    return s != NULL ? &s->ctx : NULL;
}

weft_ctx_t *weft_ctx_with_deadline(weft_ctx_t *parent, int64_t deadline)
{
    if (parent == NULL || deadline == 0 || deadline >= deadline_of(parent))
        return weft_ctx_with_cancel(parent);
    M *m = rt_enter();
    if (m == NULL)
        return NULL;
    CtxScope *s = timed_new(m, parent, deadline);
    rt_leave(m);
    return s != NULL ? &s->ctx : NULL;
}

weft_ctx_t *weft_ctx_with_value(weft_ctx_t *parent, const void *key, void *value)
{
    M *m = parent != NULL && key != NULL ? rt_enter() : NULL;
    if (m == NULL)
        return NULL;
    CtxValue *v = rt_alloc(sizeof *v);
    if (v != NULL) {
        ctx_init(&v->ctx, parent, CTX_VALUE);
        v->key = key;
        v->value = value;
    }
    rt_leave(m);
    return v != NULL ? &v->ctx : NULL;
}

int weft_ctx_cancel(weft_ctx_t *ctx, int cause)
{
    if (ctx == NULL || cause > 0 || ctx->kind < CTX_SCOPE)
        return -EINVAL;
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    m = chaos_yield(m, 8);
    scope_cancel(m, ctx->scope, -ECANCELED, cause != 0 ? cause : -ECANCELED, true);
    rt_leave(m);
    return 0;
}

int weft_ctx_err(weft_ctx_t *ctx)
{
    if (ctx == NULL)
        return -EINVAL;
    return scope_over(ctx->scope) ? ctx->scope->err : 0;
}

int weft_ctx_cause(weft_ctx_t *ctx)
{
    if (ctx == NULL)
        return -EINVAL;
    return scope_over(ctx->scope) ? ctx->scope->cause : 0;
}

weft_chan_t *weft_ctx_done(weft_ctx_t *ctx)
{
    return ctx != NULL && ctx->scope != NULL ? ctx->scope->done : NULL;
}

void *weft_ctx_value(weft_ctx_t *ctx, const void *key)
{
    for (; ctx != NULL; ctx = ctx->parent)
        if (ctx->kind == CTX_VALUE && container_of(ctx, CtxValue, ctx)->key == key)
            return container_of(ctx, CtxValue, ctx)->value;
    return NULL;
}

weft_ctx_t *weft_ctx_ref(weft_ctx_t *ctx)
{
    if (ctx != NULL)
        ctx_take(ctx);
    return ctx;
}

void weft_ctx_unref(weft_ctx_t *ctx)
{
    if (ctx == NULL || ctx->kind == CTX_BACKGROUND || ref_drop_shared(&ctx->refs))
        return;
    M *m = rt_enter(); /* NULL, no memory for a foreign thread's, is good enough for a lock */
    if (m == NULL && get(&sched.forked))
        fatal("weft_ctx_unref in a forked child");
    ctx_drop(m, ctx);
    if (m != NULL)
        rt_leave(m);
}
