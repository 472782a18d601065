/* SPDX-License-Identifier: MIT
 *
 * callback.c: the calls of timers' functions that have begun, and who waits for their end.
 *
 * weft_timer_start()'s function runs in a coroutine of its own; stop comes too late for a call that has
 * begun, stop_wait waits for it. The timer cannot count its calls: its function may free it, and so may its
 * owner as soon as it has fired. So a call is listed here, from the moment that it is made, by its timer's
 * address, which is compared and never followed, to the end of its coroutine, however that ends. The
 * lists are a few growing arrays, by the hash of that address; a coroutine knows its place (G.callback).
 *
 * Another timer may have come to lie at the address of one that is gone, whose function still runs. So
 * a timer has a number as well (TimerHead.life): 0 while it is {0}, and given to it when it first fires. (After
 * 2^32 of these a number comes again; should a call have lasted so long, it is waited for in vain.)
 *
 * Which calls: those that are listed when stop_wait looks for the first time, after it has stopped the timer;
 * a serial number tells them from later ones. A call is listed under the lock of the heap in which its timer
 * is pending, before the timer is taken out: so who has found the timer stopped, or not pending, finds
 * the call.
 *
 * No wake-up is lost. Who waits holds the lot of its timer (lot.c), finds one of these calls, marks it and
 * queues itself before it lets go of the lot. Who ends a call takes it off the list, sees the mark under
 * the same lock, and then wakes all in the lot; they look again. The mark outlives a wait that was given up,
 * and what is woken then wakes in vain. The lot's address is the timer's plus one: nobody else waits
 * for an odd one, not even for what comes to lie there.
 *
 * Lock order: a lot, or a heap, then RANK_CALLS, then coro_spawn()'s. Pages of the system, not malloc's: lists
 * grow under locks (timer.c).
 */
#include "sync.h"

#include "lot.h"

enum { SHARES = 64, CAP_MIN = 128 };

typedef struct {
    const Timer *timer; /* only to compare */
    uint64_t serial;
    G *g;
    uint32_t life; /* timer's */
    bool waited;   /* somebody waits for its end */
} Call;

static struct Share {
    _Alignas(CACHE_LINE) Lock lock;
    Call *e;         /* (l) in no order */
    uint32_t n, cap; /* (l) */
    uint32_t lives;  /* (l) the last number given to a timer */
    uint64_t serial; /* (l) the last call's */
} shares[SHARES];
typedef struct Share Share;

static uint32_t share_of(const Timer *t)
{
    return (uint32_t)((uintptr_t)t / sizeof *t % SHARES);
}

static const void *lot_address(const Timer *t)
{
    return (const char *)t + 1;
}

/* ---- the lists; the share's lock is held ---- */

static int share_resize(Share *s, uint32_t cap)
{
    Call *e = sys_reserve(cap * sizeof *e, sys_page());
    if (e == NULL)
        return -ENOMEM;
    if (s->e != NULL) {
        memcpy(e, s->e, s->n * sizeof *e);
        sys_release(s->e, s->cap * sizeof *e);
    }
    s->e = e;
    s->cap = cap;
    return 0;
}

static void share_add(Share *s, Timer *t, G *g)
{
    if (get(&t->head.life) == 0) {
        s->lives += s->lives == UINT32_MAX ? 2 : 1;
        set(&t->head.life, s->lives);
    }
    g->flags |= G_TIMER;
    g->callback.share = share_of(t);
    g->callback.at = s->n;
    s->e[s->n++] = (Call){.timer = t, .serial = ++s->serial, .g = g, .life = get(&t->head.life)};
}

static void share_remove(Share *s, uint32_t at)
{
    s->e[at] = s->e[--s->n];
    s->e[at].g->callback.at = at;
    if (unlikely(s->cap > CAP_MIN && s->n < s->cap / 4))
        share_resize(s, s->cap / 2); /* without memory for the smaller one it stays */
}

static bool call_of(const Call *c, const Timer *t, uint32_t life)
{
    return c->timer == t && c->life == life;
}

/* ---- a call begins, and ends ---- */

int callback_spawn(M *m, Timer *t, G **g)
{
    Share *s = &shares[share_of(t)];
    lock_acquire(m, &s->lock, RANK_CALLS);
    int rc = likely(s->n < s->cap) ? 0 : share_resize(s, s->cap > 0 ? 2 * s->cap : CAP_MIN);
    if (likely(rc == 0))
        rc = coro_spawn(m, NULL, t->fn, t->arg, (void *)(uintptr_t)t->head.seq, g);
    if (likely(rc == 0))
        share_add(s, t, *g);
    lock_release(&s->lock);
    return rc;
}

/* What waits for calls of t looks again. */
static void callback_wake(M *m, const Timer *t)
{
    const void *addr = lot_address(t);
    GList ready = {NULL, NULL};
    Lot *lot = lot_lock(m, addr);
    for (Wait *w; (w = lot_first(lot, addr)) != NULL;)
        lot_grant(lot, w, &ready);
    lot_unlock(lot);
    sched_ready_list(m, ready.head);
}

void callback_end(M *m, G *g)
{
    Share *s = &shares[g->callback.share];
    lock_acquire(m, &s->lock, RANK_CALLS);
    Call c = s->e[g->callback.at];
    share_remove(s, g->callback.at);
    lock_release(&s->lock);
    if (unlikely(c.waited))
        callback_wake(m, c.timer);
}

void callback_reset(void)
{
    for (Share *s = shares; s < shares + SHARES; s++) {
        lock_acquire(NULL, &s->lock, RANK_CALLS);
        if (s->e != NULL)
            sys_release(s->e, s->cap * sizeof *s->e);
        s->e = NULL;
        s->n = s->cap = 0;
        lock_release(&s->lock);
    }
}

/* ---- waiting for the end ---- */

/* Is the caller one of t's calls? */
static bool callback_is_own(M *m, const Timer *t, uint32_t life)
{
    G *g = m->g;
    if (likely((g->flags & G_TIMER) == 0) || g->callback.share != share_of(t))
        return false;
    Share *s = &shares[g->callback.share];
    lock_acquire(m, &s->lock, RANK_CALLS);
    bool own = call_of(&s->e[g->callback.at], t, life);
    lock_release(&s->lock);
    return own;
}

/* Is there a call of t that is no later than *upto (0: than now)? It is marked then. t's lot is held. */
static bool callback_find(M *m, const Timer *t, uint32_t life, uint64_t *upto)
{
    Share *s = &shares[share_of(t)];
    bool found = false;
    lock_acquire(m, &s->lock, RANK_CALLS);
    if (*upto == 0)
        *upto = s->serial;
    for (uint32_t i = 0; i < s->n && !found; i++)
        if (call_of(&s->e[i], t, life) && s->e[i].serial <= *upto)
            found = s->e[i].waited = true;
    lock_release(&s->lock);
    return found;
}

/* *t is not touched: each of the calls may free it. */
static int callback_wait(M **mp, const Timer *t, uint32_t life, int64_t deadline)
{
    LotWait how = {.addr = lot_address(t), .deadline = deadline, .why = WHY_TIMER};
    uint64_t upto = 0;
    int rc;
    for (;;) {
        Lot *lot = lot_lock(*mp, how.addr);
        bool found = callback_find(*mp, t, life, &upto);
        rc = found ? sync_may_wait(deadline) : 0;
        if (found && rc == 0 && (rc = lot_wait(mp, lot, &how)) == 0)
            continue;
        lot_unlock(lot);
        return rc;
    }
}

int weft_timer_stop_wait_until(weft_timer_t *wt, int64_t deadline)
{
    Timer *t = (Timer *)(void *)wt;
    if (t == NULL)
        return -EINVAL;
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    m = chaos_yield(m, 4);
    int rc = -EDEADLK;
    if (!callback_is_own(m, t, get(&t->head.life))) {
        rc = timer_del(m, &t->head);
        uint32_t life = get(&t->head.life); /* of a call that timer_del() came too late for, too */
        int waited = life != 0 ? callback_wait(&m, t, life, deadline) : 0;
        if (unlikely(waited != 0))
            rc = waited;
    }
    rt_leave(m);
    return rc;
}

int weft_timer_stop_wait(weft_timer_t *t)
{
    return weft_timer_stop_wait_until(t, 0);
}
