/* SPDX-License-Identifier: MIT
 *
 * coro.c: coroutines are born and end; where Gs live.
 *
 * A G is a record of 256 bytes, apart from its stack. weft_go() makes the
 * record and only *reserves* a stack; the stack is bound when the G runs for the
 * first time. So a burst of short coroutines costs a queue of records, and they
 * all run on the few stacks that are warm in the cache.
 *
 * Gs come in slabs of 64 KiB, aligned to their size, so that a G finds its slab
 * by its address. They are the system's pages, not malloc's: aligned blocks among
 * smaller ones left glibc's heap in pieces, and under ulimit -v half of it was
 * lost after the first peak. Each P keeps a list of free Gs and trades batches with the
 * slabs under arena.lock; a slab all of whose Gs are free is given back when
 * there are some to spare. Every G that exists is found by walking the slabs:
 * no list to keep at birth and death.
 *
 * Ids are handed out to Ps in batches and never used again; 1 is main.
 *
 * A G's memory may be used for another one as soon as coro_reap() has run. No
 * waker can hold a stale G: it got the G out of a queue under that queue's
 * lock, or by winning wait_claim(), and the G has not run since; a timer holds
 * its heap's lock until it is done with a G whose claim it has lost (rt.h,
 * TimerFire).
 *
 * Lock: arena.lock (RANK_ARENA).
 */
#include "annotate.h"
#include "copystack.h"
#include "layout.h"

#include <unistd.h>

enum { SLAB = 65536, BATCH = 32, CACHE = 128, SPARE_SLABS = 4, IDS = 1024 };

typedef struct Slab {
    struct Slab *next, *prev;           /* arena.lock: all slabs */
    struct Slab *next_free, *prev_free; /* arena.lock: those with free Gs; self-linked: not on it */
    G *free;                            /* arena.lock */
    uint32_t nfree;                     /* arena.lock */
    uint32_t n;                         /* constant */
    _Alignas(CACHE_LINE) G g[];
} Slab;

static struct {
    Lock lock;
    Slab *all;
    Slab *partial;
    uint32_t empty; /* slabs all of whose Gs are free */
    Slab *at;       /* where coro_foreach_some() goes on; NULL: at the end */
} arena;

const Layout coro_layout[] = {
    LAYOUT_ADDRESS("slabs", &arena.all),
    LAYOUT_FIELD(Slab, next),
    LAYOUT_FIELD(Slab, n),
    LAYOUT_FIELD(Slab, g[0]),
    {0, 0, ""},
};
/* Links layout.c into programs that have the library as an archive. */
static const void *const layout_wanted __attribute__((used)) = weft_private_layout;

static Slab *slab_of(G *g)
{
    return (Slab *)((uintptr_t)g & ~(uintptr_t)(SLAB - 1));
}

/* ---- slabs: arena.lock held ---- */

static void partial_push(Slab *s)
{
    s->next_free = arena.partial;
    s->prev_free = NULL;
    if (arena.partial != NULL)
        arena.partial->prev_free = s;
    arena.partial = s;
}

static void partial_remove(Slab *s)
{
    if (s->prev_free != NULL)
        s->prev_free->next_free = s->next_free;
    else
        arena.partial = s->next_free;
    if (s->next_free != NULL)
        s->next_free->prev_free = s->prev_free;
}

static bool slab_add(void)
{
    Slab *s = sys_reserve(SLAB, SLAB);
    if (s == NULL)
        return false;
    s->n = (SLAB - offsetof(Slab, g)) / sizeof(G);
    for (uint32_t i = s->n; i-- > 0;) {
        s->g[i].link = s->free;
        s->free = &s->g[i];
    }
    s->nfree = s->n;
    s->next = arena.all;
    if (arena.all != NULL)
        arena.all->prev = s;
    arena.all = s;
    partial_push(s);
    arena.empty++;
    return true;
}

static void slab_drop(Slab *s)
{
    partial_remove(s);
    if (arena.at == s)
        arena.at = s->next;
    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        arena.all = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
    for (uint32_t i = 0; i < s->n; i++)
        rt_free(s->g[i].cases);
    sys_release(s, SLAB);
}

static G *slab_take(void)
{
    if (arena.partial == NULL && !slab_add())
        return NULL;
    Slab *s = arena.partial;
    G *g = s->free;
    s->free = g->link;
    if (s->nfree-- == s->n)
        arena.empty--;
    if (s->nfree == 0)
        partial_remove(s);
    return g;
}

static void slab_give(G *g)
{
    Slab *s = slab_of(g);
    g->link = s->free;
    s->free = g;
    if (s->nfree++ == 0)
        partial_push(s);
    if (s->nfree == s->n && ++arena.empty > SPARE_SLABS) {
        arena.empty--;
        slab_drop(s);
    }
}

/* ---- Gs ---- */

static G *take_batch(P *p)
{
    lock_acquire(NULL, &arena.lock, RANK_ARENA);
    G *g = slab_take();
    for (uint32_t i = 1; g != NULL && p != NULL && i < BATCH; i++) {
        G *more = slab_take();
        if (more == NULL)
            break;
        more->link = p->free;
        p->free = more;
        p->nfree++;
    }
    lock_release(&arena.lock);
    return g;
}

static void give(P *p, uint32_t keep)
{
    lock_acquire(NULL, &arena.lock, RANK_ARENA);
    while (p->nfree > keep) {
        G *g = p->free;
        p->free = g->link;
        p->nfree--;
        slab_give(g);
    }
    lock_release(&arena.lock);
}

void coro_flush(P *p)
{
    give(p, 0);
}

/* A free one. p may be NULL. */
static void put_back(P *p, G *g)
{
    if (p == NULL) {
        coro_lock_all();
        slab_give(g);
        coro_unlock_all();
        return;
    }
    g->link = p->free;
    p->free = g;
    if (unlikely(++p->nfree > CACHE))
        give(p, CACHE / 2);
}

/* There is no stock of ids, or none is kept: births are noted. */
static __attribute__((noinline)) uint64_t next_id_slow(P *p, G *g)
{
    uint64_t n = p != NULL && !event_wanted(NOTE_TRACE | NOTE_LATENCY) ? IDS : 1;
    uint64_t id = atomic_fetch_add_explicit(&sched.ids, n, memory_order_relaxed);
    event_born(p, g);
    if (p != NULL) {
        p->id_next = id + 1;
        p->id_end = id + n;
    }
    return id;
}

static uint64_t next_id(P *p, G *g)
{
    if (unlikely(p == NULL || p->id_next == p->id_end))
        return next_id_slow(p, g);
    return p->id_next++;
}

void coro_lock_all(void)
{
    lock_acquire(NULL, &arena.lock, RANK_ARENA);
}

bool coro_try_lock_all(void)
{
    return lock_try(&arena.lock, RANK_ARENA);
}

void coro_unlock_all(void)
{
    lock_release(&arena.lock);
}

/* ---- what few have: known.h ---- */

static void extra_release(Extra *x)
{
    if (x != NULL)
        rt_free(x->values);
    rt_free(x);
}

Extra *extra_of(G *g)
{
    if (g->x != NULL)
        return g->x;
    Extra *x = rt_alloc(sizeof *x);
    if (x == NULL)
        return NULL;
    memset(x, 0, sizeof *x);
    coro_lock_all();
    g->x = x;
    coro_unlock_all();
    return x;
}

void extra_free(G *g)
{
    coro_lock_all();
    Extra *x = g->x;
    g->x = NULL;
    coro_unlock_all();
    extra_release(x);
}

static void set_name(Extra *x, const char *name)
{
    if (name == NULL)
        name = "";
    size_t n = strnlen(name, NAME_MAX_LEN);
    coro_lock_all();
    memcpy(x->name, name, n);
    x->name[n] = '\0';
    coro_unlock_all();
}

static bool wants_extra(const weft_attr_t *attr)
{
    return attr->id != NULL || attr->ctx != NULL || (attr->name != NULL && *attr->name != '\0');
}

/* A new coroutine's. */
static void use_attr(M *m, G *g, const weft_attr_t *attr)
{
    if (attr->flags & WEFT_MOVABLE)
        g->flags |= G_MOVABLE;
    if (attr->name != NULL && *attr->name != '\0')
        set_name(g->x, attr->name);
    if (attr->id != NULL || attr->ctx != NULL)
        known_add(m, g);
    if (attr->id != NULL)
        *attr->id = g->id; /* now: who reads it finds it listed */
    if (attr->ctx != NULL && ctx_bind(m, attr->ctx, &g->x->ctx, g->id) != 0)
        cancel_coroutine(m, g->id); /* it is over already */
}

static int check_attr(const weft_attr_t *attr)
{
    int stack = attr->stack != 0 ? attr->stack : sched.stack;
    if (attr->stack < 0 || attr->stack > WEFT_STACK_COPIED ||
        (attr->flags & ~(unsigned)WEFT_MOVABLE) != 0)
        return -EINVAL;
    if (stack == WEFT_STACK_COPIED && !sched.threads)
        return attr->stack_max > windows.limit ? -EINVAL : STACK_WINDOW;
    return attr->stack_max != 0 ? stack_class(attr->stack_max) : 0;
}

int coro_spawn(M *m, const weft_attr_t *attr, void (*fn)(void *), void *arg, void *pc, G **out)
{
    P *p = m->p;
    int cls = sched.stack_class, rc;

    if (unlikely(attr != NULL) && (cls = check_attr(attr)) < 0)
        return cls;
    rc = unlikely(cls == STACK_WINDOW) ? window_reserve() : stack_reserve(p, cls);
    if (unlikely(rc != 0))
        goto no_stack;
    G *g = p != NULL ? p->free : NULL;
    if (likely(g != NULL)) {
        p->free = g->link;
        p->nfree--;
    } else if ((g = take_batch(p)) == NULL) {
        rc = -ENOMEM;
        goto no_g;
    }
    if (unlikely(attr != NULL) && wants_extra(attr) && extra_of(g) == NULL) {
        rc = -ENOMEM;
        goto no_extra;
    }
    g->sp = NULL;
    g->slot = NULL;
    g->link = NULL;
    g->fn = fn;
    g->arg = arg;
    g->wg = NULL;
    g->stack_class = (uint8_t)cls;
    g->saved_errno = 0;
    g->flags = cls == STACK_WINDOW ? G_COPIED : 0;
    g->held = false;
    g->cxx[0] = g->cxx[1] = NULL;
    g->unpreemptible = g->pins = 0;
    g->id = next_id(p, g);
    g->spawn_pc = pc;
    event_spawn(g, fn, pc);
    if (unlikely(attr != NULL))
        use_attr(m, g, attr);
    set(&g->reason, WHY_START);
    set_rel(&g->state, G_WAITING); /* until it is put into a queue; pairs with coro_foreach() */
    if (likely(p != NULL))
        bump(&p->spawned, 1);
    else
        atomic_fetch_add_explicit(&sched.foreign_spawned, 1, memory_order_relaxed);
    *out = g;
    return 0;
no_extra:
    put_back(p, g);
no_g:
    if (cls != STACK_WINDOW)
        stack_unreserve(p, cls);
no_stack:
    return rc;
}

typedef struct {
    void (*fn)(void *);
    void *arg;
} Call;

/* First code on a new stack. */
static __attribute__((noinline)) Call coro_begin(M *m)
{
    G *g = m->g;
    Call call = {g->fn, g->arg}; /* now: once g can be preempted a save puts its block there */
    note_arrive(g);
    cxx_arrive(m, g);
    sched_arrive(m);
    *m->errno_addr = 0;
    rt_leave(m);
    return call;
}

/* What an Extra has to do with its end. What is called here is not cancelled. */
static __attribute__((noinline)) M *coro_end_known(M *m)
{
    G *g = m->g;
    known_defer(g);
    g->x->ends = true;
    if (g->x->nvalues != 0) {
        rt_leave(m);
        keys_end(g);
        m = rt_enter();
    }
    ctx_unbind(m, &g->x->ctx);
    if (g->x->listed)
        known_end(m, g);
    return m;
}

/* Main's is the end of the run. One that has not let go of its thread takes it along. */
WEFT_NO_TSAN static __attribute__((noinline)) void coro_end_odd(M *m)
{
    G *g = m->g;
    if (g->flags & G_MAIN)
        life_main_ends();
    if (g->pins > (sched.threads ? 1 : 0)) /* one is ours: coro_bind() */
        sched_exit_pinned(m);
}

WEFT_NO_TSAN static __attribute__((noinline)) _Noreturn void coro_finish(void)
{
    M *m = rt_enter();
    if (unlikely(m == NULL)) {
        static const char text[] = "weft: fatal: a coroutine returned in a forked child\n";
        (void)!write(2, text, sizeof text - 1);
        _exit(2);
    }
    G *g = m->g;
    if (unlikely(g->x != NULL))
        m = coro_end_known(m);
    if (unlikely(g->flags & G_GROUP))
        group_leave(g->wg);
    if (unlikely(g->flags & G_TIMER))
        callback_end(m, g);
    else if (g->wg != NULL)
        weft_wg_done(g->wg);
    if (unlikely(g->flags & (G_MAIN | G_PINNED)))
        coro_end_odd(m);
    sched_exit(m);
}

/* Keeps nothing: its frame is on every stack, and costs memory on copied ones. */
WEFT_NO_TSAN void coro_start(void *m)
{
    Call call = coro_begin(m);
    call.fn(call.arg);
    coro_finish();
}

bool coro_bind(M *m, G *g)
{
    if (unlikely(window_copied(g))) {
        if (!copystack_bind(m, g))
            return false;
    } else {
        g->slot = stack_get(m->p, g->stack_class);
    }
    g->sp = arch_prepare(stack_top(g->slot), coro_start);
    if (unlikely(stack_unguarded(g->slot)))
        g->flags |= G_UNGUARDED;
    note_bind(g);
    if (unlikely(sched.threads)) {
        g->pins = 1;
        g->flags |= G_PINNED;
    }
    return true;
}

bool coro_reap(M *m, G *g, void *arg)
{
    (void)arg;
    P *p = m->p;
    note_end(g);
    if (unlikely(g->stack_class == STACK_WINDOW)) {
        copystack_end(m, g);
    } else {
        stack_put(p, g->slot);
        stack_unreserve(p, g->stack_class);
    }
    if (unlikely(g->x != NULL))
        extra_free(g);
    set(&g->state, G_DEAD);
    bump(&p->exited, 1);
    if (unlikely(g->flags & G_OWN))
        atomic_fetch_sub(&sched.own, 1);
    put_back(p, g);
    return true;
}

static void slab_foreach(Slab *s, void (*fn)(G *, void *), void *arg)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (get_acq(&s->g[i].state) != G_DEAD)
            fn(&s->g[i], arg);
}

void coro_foreach_alone(void (*fn)(G *, void *), void *arg)
{
    for (Slab *s = arena.all; s != NULL; s = s->next)
        slab_foreach(s, fn, arg);
}

/* Slabs that are added meanwhile come first in the list: the next walk meets them. */
bool coro_foreach_some(bool first, uint32_t slabs, void (*fn)(G *, void *), void *arg)
{
    assert_held(&arena.lock);
    if (first)
        arena.at = arena.all;
    for (; arena.at != NULL && slabs > 0; slabs--) {
        slab_foreach(arena.at, fn, arg);
        arena.at = arena.at->next;
    }
    return arena.at != NULL;
}

void coro_foreach(void (*fn)(G *, void *), void *arg)
{
    lock_acquire(NULL, &arena.lock, RANK_ARENA);
    coro_foreach_alone(fn, arg);
    lock_release(&arena.lock);
}

void coro_free_all(void)
{
    lock_acquire(NULL, &arena.lock, RANK_ARENA);
    for (Slab *s = arena.all, *next; s != NULL; s = next) {
        next = s->next;
        for (uint32_t i = 0; i < s->n; i++) {
            G *g = &s->g[i];
            rt_free(g->cases);
            if (get(&g->state) != G_DEAD) {
                note_end(g);
                extra_release(g->x);
                block_free(NULL, g->block, g->block_size);
            }
        }
        sys_release(s, SLAB);
    }
    arena.all = arena.partial = arena.at = NULL;
    arena.empty = 0;
    lock_release(&arena.lock);
}

/* ---- public ---- */

int coro_go_own(void (*fn)(void *), void *arg, const char *name)
{
    G *g;
    weft_attr_t attr = {.name = name, .stack = WEFT_STACK_PRIVATE};
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    int rc = -EPERM;
    if (get_acq(&sched.active))
        rc = coro_spawn(m, &attr, fn, arg, (void *)(uintptr_t)fn, &g);
    if (rc == 0) {
        g->flags |= G_OWN;
        atomic_fetch_add(&sched.own, 1);
        sched_ready(m, g);
    }
    rt_leave(m);
    return rc;
}

static int go(const weft_attr_t *attr, void (*fn)(void *), void *arg, void *pc)
{
    M *m = rt_enter();
    if (unlikely(m == NULL))
        return rt_no_m();
    G *g;
    int rc = -EPERM;
    if (unlikely(fn == NULL))
        rc = -EINVAL;
    else if (likely(get_acq(&sched.active)))
        rc = coro_spawn(m, attr, fn, arg, pc, &g);
    if (likely(rc == 0)) {
        sched_ready(m, g);
        m = chaos_yield(m, 4);
    }
    rt_leave(m);
    return rc;
}

int weft_go(void (*fn)(void *), void *arg)
{
    return go(NULL, fn, arg, __builtin_return_address(0));
}

int weft_go_with(const weft_attr_t *attr, void (*fn)(void *), void *arg)
{
    return go(attr, fn, arg, __builtin_return_address(0));
}

void weft_exit(void)
{
    if (coro_self() == NULL)
        fatal("weft_exit was not called by a coroutine");
    coro_finish();
}

int weft_set_name(const char *name)
{
    G *g = coro_self();
    if (g == NULL)
        return rt_no_coro();
    M *m = rt_enter();
    Extra *x = extra_of(g);
    if (x != NULL)
        set_name(x, name);
    if (x != NULL && event_wanted(NOTE_TRACE))
        trace_name(g);
    rt_leave(m);
    return x != NULL ? 0 : -ENOMEM;
}

int weft_stack_bounds(void **lo, void **hi)
{
    if (lo == NULL || hi == NULL)
        return -EINVAL;
    const G *g = coro_self();
    if (g == NULL)
        return rt_no_coro();
    stack_bounds(g->slot, lo, hi);
    return 0;
}
