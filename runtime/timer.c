/* SPDX-License-Identifier: MIT
 *
 * timer.c: timers and sleep.
 *
 * Each P has a 4-ary heap of {when, timer} under a lock of its own: a new timer
 * goes into the heap of the P it is made on, whoever finds an entry due (the P
 * itself, a thief, the M in the poller) fires it. Four children to a node halve
 * the depth, and the copy of `when` in the entry keeps sifting inside the array.
 *
 * Removal is eager: stop takes the entry out at once, through t->idx. Go marks
 * and removes later; we cannot, because the memory of a weft_timer_t is the
 * user's, who may free it as soon as it is stopped or has fired, and nothing of
 * it may stay behind. What makes it cheap: most timers are timeouts, stopped
 * soon after their start. So a new entry first joins a few others behind the
 * heap, in no order, and is sorted in only when these are full or the heap is
 * run. Start and stop of a timeout then cost the same beside any number of timers
 * (measured beside 32768: 60 ns with sorting in at once, 25 without).
 *
 * Who owns a timer. t->heap says: NULL, nobody; P, it is in P's heap, and every
 * other field belongs to the holder of P's lock.
 *   NULL -> P    under the timer's claim lock (one of a few, by address) and P's
 *   P -> NULL    under P's lock, as the last access to *t
 *   P -> Q       under both locks (timer_move)
 * So whoever has read P takes P's lock and reads again (timer_lock_heap): if it
 * is still P, it stays P until the unlock. Who has read NULL under the claim lock
 * knows that it stays NULL. Hence for racing calls:
 *   stop/stop, stop/fire: both want P's lock; the second one finds NULL.
 *   start/start, start/reset: one after the other, by the claim lock; the second
 *     one finds P, and rearms the timer there, or NULL again if it has fired.
 *   start/stop: stop sees NULL (it came first), or P, and then waits for P's
 *     lock, under which start has filled in the fields.
 *   anything/timer_move: the second look at t->heap fails, they retry with Q.
 * An idle timer goes only into the heap of a P that the caller holds (or P 0,
 * which is never taken away), so none comes into the heap of a P that is gone.
 * (A lock instead of a compare-and-swap on t->heap, since locks are free in solo
 * mode.) The timers inside Gs have one user, and need no claim.
 *
 * The store of NULL is a release; it pairs with the acquire load in
 * timer_lock_heap(), so that the next owner's writes come after our last reads.
 *
 * Who waits for a new first timer: idle.c. Its half of the handshake announces
 * poll_until and then reads every `first`; ours stores `first` and then reads
 * poll_until (idle_timer_added). All four are sequentially consistent, so one
 * sees the other. Raising `first` needs no order: somebody wakes up in vain.
 *
 * Firing. The heap knows heads only. A sleeper's, without a function, lies inside its
 * G, and nothing of a Timer follows it; what has a function is a whole Timer.
 * For a sleeper wait_claim() decides between us and its other wakers. Won: the G
 * stays parked until we make it ready, so it cannot be gone. Lost: the G may run
 * already, but before it uses its timer again or ends it calls timer_del(), which
 * waits for our lock while t->heap is set. Ready lists go out after the unlock, in
 * order of deadlines.
 *
 * Locks: RANK_CLAIM, then RANK_TIMERS, two of these in address order, then
 * coro_spawn()'s. A claim lock may lie above a heap of any P.
 */
#include "rt.h"

enum {
    ARITY = 4,
    CAP_MIN = 4096 / sizeof(TimerEntry),
    FRESH = 8, /* most new entries outside the heap */
    CLAIMS = 64,
    BATCH = 128, /* timers fired per hold of the lock */
};
static const int64_t RETRY_NS = 1000000; /* no memory for a timer's coroutine: try again */

/* ---- the heap; its lock is held ---- */

static inline void timer_place(TimerEntry *e, uint32_t i, TimerEntry x)
{
    e[i] = x;
    x.t->idx = i;
}

/* Put x into the hole at i or above. */
static void timer_up(TimerEntry *e, uint32_t i, TimerEntry x)
{
    while (i > 0) {
        uint32_t parent = (i - 1) / ARITY;
        if (e[parent].when <= x.when)
            break;
        timer_place(e, i, e[parent]);
        i = parent;
    }
    timer_place(e, i, x);
}

/* Put x into the hole at i or below. */
static void timer_down(TimerEntry *e, uint32_t n, uint32_t i, TimerEntry x)
{
    for (;;) {
        uint32_t child = i * ARITY + 1, least = child;
        if (child >= n)
            break;
        uint32_t end = child + ARITY < n ? child + ARITY : n;
        int64_t when = e[child].when;
        while (++child < end)
            if (e[child].when < when)
                when = e[least = child].when;
        if (when >= x.when)
            break;
        timer_place(e, i, e[least]);
        i = least;
    }
    timer_place(e, i, x);
}

static void timer_sift(Timers *ts, uint32_t i, TimerEntry x)
{
    if (i > 0 && x.when < ts->e[(i - 1) / ARITY].when)
        timer_up(ts->e, i, x);
    else
        timer_down(ts->e, ts->heap, i, x);
}

/* Pages of the system, not malloc's: a heap grows under locks that the monitor takes
 * too, and a coroutine may be held inside malloc (hold.c). */
static int timer_resize(Timers *ts, uint32_t cap)
{
    TimerEntry *e = sys_reserve(cap * sizeof *e, sys_page());
    if (e == NULL)
        return -ENOMEM;
    if (ts->e != NULL) {
        memcpy(e, ts->e, ts->n * sizeof *e);
        sys_release(ts->e, ts->cap * sizeof *e);
    }
    ts->e = e;
    ts->cap = cap;
    return 0;
}

static int timer_reserve(Timers *ts, uint32_t n)
{
    if (likely(n <= ts->cap))
        return 0;
    uint32_t cap = ts->cap > 0 ? ts->cap : CAP_MIN;
    while (cap < n)
        cap *= 2;
    return timer_resize(ts, cap);
}

/* Sort the new entries in. */
static void timer_settle(Timers *ts)
{
    for (; ts->heap < ts->n; ts->heap++)
        timer_up(ts->e, ts->heap, ts->e[ts->heap]);
}

static int64_t timer_first(const Timers *ts)
{
    int64_t first = ts->heap > 0 ? ts->e[0].when : INT64_MAX;
    for (uint32_t i = ts->heap; i < ts->n; i++)
        if (ts->e[i].when < first)
            first = ts->e[i].when;
    return first;
}

/* An entry for the time when has come. True: it is earlier than all others. */
static bool timer_publish(Timers *ts, int64_t when)
{
    set(&ts->count, ts->n);
    if (when >= get(&ts->first))
        return false;
    atomic_store(&ts->first, when); /* before poll_until is read: pairs with poll_and_wait() */
    return true;
}

/* The one for the time when has gone. */
static void timer_retract(Timers *ts, int64_t when)
{
    set(&ts->count, ts->n);
    if (when <= get(&ts->first))
        set(&ts->first, timer_first(ts));
}

static void timer_append(Timers *ts, TimerEntry x)
{
    if (ts->n - ts->heap == FRESH)
        timer_settle(ts);
    timer_place(ts->e, ts->n++, x);
}

/* Room was reserved, t->heap is p. */
static bool timer_insert(P *p, TimerHead *t, int64_t when)
{
    t->when = when;
    timer_append(&p->timers, (TimerEntry){when, t});
    return timer_publish(&p->timers, when);
}

/* *t is not touched after this. */
static void timer_remove(P *p, TimerHead *t)
{
    Timers *ts = &p->timers;
    uint32_t i = t->idx;
    TimerEntry last;
    if (i < ts->heap) { /* the heap's last entry takes its place, and leaves a hole itself */
        last = ts->e[--ts->heap];
        if (i < ts->heap)
            timer_sift(ts, i, last);
        i = ts->heap;
    }
    last = ts->e[--ts->n];
    if (i < ts->n)
        timer_place(ts->e, i, last);
    timer_retract(ts, t->when);
    if (unlikely(ts->cap > CAP_MIN && ts->n < ts->cap / 4))
        timer_resize(ts, ts->cap / 2); /* half stays free, so that growing is not next */
    set_rel(&t->heap, NULL);           /* pairs with timer_lock_heap() */
}

static bool timer_rearm(P *p, TimerHead *t, int64_t when)
{
    Timers *ts = &p->timers;
    int64_t old = t->when;
    TimerEntry x = {when, t};
    t->when = when;
    if (t->idx < ts->heap)
        timer_sift(ts, t->idx, x);
    else
        ts->e[t->idx] = x;
    if (when > old)
        timer_retract(ts, old);
    return timer_publish(ts, when);
}

/* ---- ownership ---- */

/* The heap a new timer goes to; it stays alive while the caller does not park. */
static inline P *timer_home(const M *m)
{
    return likely(m->p != NULL) ? m->p : sched.p[0];
}

static Lock *timer_claim_lock(const Timer *t)
{
    static struct {
        _Alignas(CACHE_LINE) Lock lock;
    } claims[CLAIMS];
    return &claims[(uintptr_t)t / sizeof *t % CLAIMS].lock;
}

/* The P whose heap t is in, its lock held; NULL: t is not pending. */
static P *timer_lock_heap(M *m, TimerHead *t)
{
    P *p;
    while ((p = get_acq(&t->heap)) != NULL) { /* pairs with timer_remove() */
        lock_acquire(m, &p->timers.lock, RANK_TIMERS);
        if (likely(get(&t->heap) == p))
            break;
        lock_release(&p->timers.lock);
    }
    return p;
}

/* Take t for the caller: in the heap that it is in, *pending, or, idle, for
 * home's; the caller inserts. Its claim lock is held. The P, its lock held with
 * room for one more; NULL: no memory. */
static P *timer_claim(M *m, Timer *t, bool *pending)
{
    P *p = timer_lock_heap(m, &t->head);
    *pending = p != NULL;
    if (p != NULL)
        return p;
    p = timer_home(m);
    lock_acquire(m, &p->timers.lock, RANK_TIMERS);
    if (unlikely(timer_reserve(&p->timers, p->timers.n + 1) < 0)) {
        lock_release(&p->timers.lock);
        return NULL;
    }
    return p;
}

/* ---- for the runtime ---- */

/* Marks a timer of weft_timer_start(): fn(arg) in a coroutine; seq: who started it. */
static void timer_start_coro(M *m, Timer *t)
{
    (void)m, (void)t;
}

static void timer_empty(Timers *ts)
{
    if (ts->e != NULL)
        sys_release(ts->e, ts->cap * sizeof *ts->e);
    ts->e = NULL;
    ts->n = ts->cap = ts->heap = 0;
    set(&ts->count, 0);
    set(&ts->first, INT64_MAX);
}

void timer_init(M *m, Timers *ts)
{
    (void)m;
    memset(ts, 0, sizeof *ts);
    set(&ts->first, INT64_MAX);
}

void timer_free(M *m, Timers *ts)
{
    lock_acquire(m, &ts->lock, RANK_TIMERS);
    while (ts->n > 0) {
        TimerHead *t =
            ts->e[--ts->n].t; /* the rest is a heap still: timer_del() may come between */
        if (ts->heap > ts->n)
            ts->heap = ts->n;
        Timer *whole = container_of(t, Timer, head);
        bool ends = t->fire != NULL && t->fire != timer_start_coro && whole->fn != NULL;
        void (*end)(void *) = ends ? whole->fn : NULL;
        void *arg = ends ? whole->arg : NULL;
        set_rel(&t->heap, NULL); /* pairs with timer_lock_heap(); *t is not touched after this */
        if (ends) {
            lock_release(&ts->lock);
            end(arg);
            lock_acquire(m, &ts->lock, RANK_TIMERS);
        }
    }
    timer_empty(ts);
    lock_release(&ts->lock);
}

int timer_add(M *m, TimerHead *t, int64_t when)
{
    P *p = timer_home(m);
    lock_acquire(m, &p->timers.lock, RANK_TIMERS);
    int rc = timer_reserve(&p->timers, p->timers.n + 1);
    bool first = false;
    if (likely(rc == 0)) {
        set(&t->heap, p); /* t is the caller's alone: no swap needed */
        first = timer_insert(p, t, when);
    }
    lock_release(&p->timers.lock);
    if (first)
        idle_timer_added(m, when);
    return rc;
}

bool timer_del(M *m, TimerHead *t)
{
    P *p = timer_lock_heap(m, t);
    if (p == NULL)
        return false;
    timer_remove(p, t);
    lock_release(&p->timers.lock);
    return true;
}

/* The caller holds from and gives it up. Without memory all stay where they are
 * and fire later: the poller and thieves look at the heaps of dead Ps too. */
void timer_move(M *m, P *from, P *to)
{
    Timers *a = &from->timers, *b = &to->timers;
    bool ordered = (uintptr_t)a < (uintptr_t)b;
    lock_acquire(m, &(ordered ? a : b)->lock, RANK_TIMERS);
    lock_acquire(m, &(ordered ? b : a)->lock, RANK_TIMERS);
    int64_t when = get(&a->first);
    bool first = false;
    if (timer_reserve(b, b->n + a->n) == 0) {
        for (uint32_t i = 0; i < a->n; i++) {
            set(&a->e[i].t->heap, to); /* fields are read under to's lock only */
            timer_append(b, a->e[i]);
        }
        first = timer_publish(b, when);
        timer_empty(a);
    }
    lock_release(&a->lock);
    lock_release(&b->lock);
    if (first)
        idle_timer_added(m, when); /* a poller may have read b before and a after the move */
}

/* ---- firing ---- */

typedef struct {
    G *head, **tail; /* by link */
} TimerReady;

static void timer_ready(TimerReady *r, G *g)
{
    g->link = NULL;
    *r->tail = g;
    r->tail = &g->link;
}

/* The next tick after now in phase with when, or never. */
static int64_t timer_next_tick(int64_t when, int64_t period, int64_t now)
{
    int64_t step, next;
    if (__builtin_mul_overflow(period, 1 + (now - when) / period, &step) ||
        __builtin_add_overflow(when, step, &next))
        return INT64_MAX;
    return next;
}

/* The first entry of p's heap is t, a G's, and due; lock held. */
static void timer_fire_wake(P *p, TimerHead *t, TimerReady *r)
{
    G *g = container_of(t, G, timer);
    bool won = wait_claim(g, t->seq);
    if (won) {
        g->result = -ETIMEDOUT;
        g->woke = NULL;
    }
    timer_remove(p, t); /* if lost, g may go on and end from here on */
    if (won)
        timer_ready(r, g);
}

/* The coroutine is made under the lock: afterwards *t may be gone, and a timer
 * must not be lost for lack of memory. */
static void timer_fire_coro(M *m, P *p, Timer *t, int64_t now, TimerReady *r)
{
    G *g;
    if (unlikely(coro_spawn(m, NULL, t->fn, t->arg, (void *)(uintptr_t)t->head.seq, &g) < 0)) {
        timer_rearm(p, &t->head, now + RETRY_NS);
        return;
    }
    if (t->period > 0)
        timer_rearm(p, &t->head, timer_next_tick(t->head.when, t->period, now));
    else
        timer_remove(p, &t->head);
    timer_ready(r, g);
}

/* Any other function: on a copy, without the lock. */
static void timer_fire_call(M *m, P *p, Timer *t)
{
    Timer copy = {.head = {.when = t->head.when, .fire = t->head.fire, .seq = t->head.seq},
                  .period = t->period,
                  .fn = t->fn,
                  .arg = t->arg};
    timer_remove(p, &t->head);
    lock_release(&p->timers.lock);
    copy.head.fire(m, &copy);
    lock_acquire(m, &p->timers.lock, RANK_TIMERS);
}

static void timer_run_batch(M *m, P *p, int64_t now, TimerReady *r)
{
    Timers *ts = &p->timers;
    lock_acquire(m, &ts->lock, RANK_TIMERS);
    timer_settle(ts);
    for (int i = 0; i < BATCH && ts->heap > 0 && ts->e[0].when <= now; i++) {
        TimerHead *t = ts->e[0].t;
        bump(&p->fired, 1); /* every writer holds this lock */
        if (t->fire == NULL)
            timer_fire_wake(p, t, r);
        else if (t->fire == timer_start_coro)
            timer_fire_coro(m, p, container_of(t, Timer, head), now, r);
        else
            timer_fire_call(m, p, container_of(t, Timer, head));
    }
    lock_release(&ts->lock);
}

int64_t timer_run(M *m, P *p, int64_t now)
{
    int64_t next;
    while ((next = get(&p->timers.first)) <= now) {
        TimerReady r = {.tail = &r.head};
        timer_run_batch(m, p, now, &r);
        sched_ready_list(m, r.head);
    }
    return next;
}

/* ---- the public interface ---- */

static int timer_sleep(int64_t when)
{
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    if (unlikely(m->foreign)) {
        rt_leave(m); /* foreign_wait_all() must not wait for it */
        sys_sleep_until(when);
        return 0;
    }
    wait_begin(m->g);
    m = sched_park_until(m, WHY_SLEEP, NULL, NULL, when);
    int rc = m->g->result == -ETIMEDOUT ? 0 : m->g->result;
    rt_leave(m);
    return rc;
}

int weft_sleep(int64_t ns)
{
    int64_t when;
    if (ns <= 0)
        return 0;
    if (__builtin_add_overflow(sys_now(), ns, &when))
        when = INT64_MAX;
    return timer_sleep(when);
}

int weft_sleep_until(int64_t when)
{
    return when <= sys_now() ? 0 : timer_sleep(when);
}

/* t is the caller's, in the heap of p, the lock held. */
static void timer_arm(M *m, P *p, Timer *t, int64_t when, bool pending)
{
    if (when < 0)
        when = 0; /* past is past; now - when cannot overflow */
    set(&t->head.heap, p);
    bool first = pending ? timer_rearm(p, &t->head, when) : timer_insert(p, &t->head, when);
    lock_release(&p->timers.lock);
    if (first)
        idle_timer_added(m, when);
}

int weft_timer_start(weft_timer_t *wt, int64_t when, int64_t period, void (*fn)(void *), void *arg)
{
    Timer *t = (Timer *)(void *)wt;
    if (t == NULL || fn == NULL || period < 0)
        return -EINVAL;
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    window_refuse(m, t, "weft_timer_t");
    Lock *claim = timer_claim_lock(t);
    bool pending;
    int rc = -EPERM;
    if (!get_acq(&sched.active))
        goto out;
    lock_acquire(m, claim, RANK_CLAIM);
    P *p = timer_claim(m, t, &pending);
    rc = p != NULL ? 0 : -ENOMEM;
    if (p != NULL) {
        t->period = period;
        t->head.fire = timer_start_coro;
        t->fn = fn;
        t->arg = arg;
        t->head.seq = (uintptr_t)__builtin_return_address(0);
        timer_arm(m, p, t, when, pending);
    }
    lock_release(claim);
out:
    rt_leave(m);
    return rc;
}

int weft_timer_stop(weft_timer_t *wt)
{
    Timer *t = (Timer *)(void *)wt;
    if (t == NULL)
        return -EINVAL;
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    int rc = timer_del(m, &t->head);
    rt_leave(m);
    return rc;
}

int weft_timer_reset(weft_timer_t *wt, int64_t when)
{
    Timer *t = (Timer *)(void *)wt;
    if (t == NULL)
        return -EINVAL;
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    window_refuse(m, t, "weft_timer_t");
    Lock *claim = timer_claim_lock(t);
    bool pending;
    int rc = -EPERM;
    if (!get_acq(&sched.active))
        goto out;
    lock_acquire(m, claim, RANK_CLAIM);
    P *p = timer_claim(m, t, &pending);
    if (p == NULL) {
        rc = -ENOMEM;
    } else if (t->fn == NULL) { /* never started */
        lock_release(&p->timers.lock);
        rc = -EINVAL;
    } else {
        timer_arm(m, p, t, when, pending);
        rc = pending;
    }
    lock_release(claim);
out:
    rt_leave(m);
    return rc;
}
