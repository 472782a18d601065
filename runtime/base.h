/* SPDX-License-Identifier: MIT
 *
 * base.h: what every file of the runtime needs: to enter and leave it, memory, reports, locks,
 * chance. Part of rt.h.
 */
#ifndef WEFT_BASE_H
#define WEFT_BASE_H

#include <errno.h>

/* ---- inside the runtime ------------------------------------------------------ */

/* Inside the runtime from here on. */
static inline void rt_raise(M *m)
{
    bump(&m->preempt_off, 1);
    atomic_signal_fence(
        memory_order_seq_cst); /* with the handlers, and the membarrier in syscall.c */
}

/* Undo one rt_raise(). A request that came meanwhile waits for who looks at it. */
static inline void rt_lower(M *m)
{
    set_rel(&m->preempt_off,
            get(&m->preempt_off) - 1);         /* pairs with foreign_wait_all(), syscall.c */
    atomic_signal_fence(memory_order_seq_cst); /* a tick before this has left a request */
}

/* The M of the calling thread, inside the runtime. NULL: there is none, see rt_no_m(). */
static inline M *rt_enter(void)
{
    M *m = arch_self();
    if (unlikely(m == NULL))
        m = foreign_attach();
    if (likely(m != NULL)) {
        rt_raise(m);
        if (unlikely(get(&m->lease) != LEASE_OWN))
            syscall_back(m);
    }
    return m;
}
/* rt_enter() failed: a forked child, or no memory for a foreign thread. */
static inline int rt_no_m(void)
{
    return get(&sched.forked) ? -ENOSYS : -ENOMEM;
}

/* The calling coroutine; NULL: none, see rt_no_coro(). */
static inline G *coro_self(void)
{
    M *m = arch_self();
    return m == NULL || m->g->flags & (G_FOREIGN | G_SYSTEM) ? NULL : m->g;
}
/* Not called by a coroutine: a forked child, or a foreign thread. */
static inline int rt_no_coro(void)
{
    return get(&sched.forked) ? -ENOSYS : -EPERM;
}

/* Of the thread's M, even where the caller knows it: see safepoint.c, "The runtime's own frames". */
static inline bool rt_requested(void)
{
    M *m = arch_self();
    return get(&m->request);
}

static inline void rt_leave(M *m)
{
    rt_lower(m);
    if (unlikely(rt_requested()))
        preempt_pending(false);
}

/* The same at the end of a call that parks: the caller may change threads. */
static inline void rt_leave_parking(M *m)
{
    rt_lower(m);
    if (unlikely(rt_requested()))
        preempt_pending(true);
}

/* ---- alloc.c, fatal.c, dump.c, debug.c --------------------------------- */

void *rt_alloc(size_t size);                       /* NULL: none */
void *rt_alloc_aligned(size_t align, size_t size); /* zeroed */
void *rt_realloc(void *p, size_t size);
void rt_free(void *p);
bool rt_alloc_room(void **room);   /* before a thread is made: it will be able to allocate */
void rt_alloc_prepare(void *room); /* at its start, or when it could not be made */

/* "weft: fatal: ...", dump, exit status 2 */
_Noreturn void fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void fatal_deadlock(void);
_Noreturn void fatal_segv(void); /* (signal) die as of a SIGSEGV that nobody mends */
void warn(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* "weft: ..." on stderr */
bool dump_all(int fd); /* false: another report is being written, and is not done in a second */
void dump_init(void);  /* load the unwinder */
/* (signal) The report of a stack overflow; ucontext NULL: here */
void dump_overflow(G *g, void *addr, void *ucontext);
/* (signal) g touches what is owner's while that is parked */
void dump_trespass(const G *g, const G *owner, const void *addr, void *ucontext);
void dump_blocked(const G *g, int64_t ns,
                  uintptr_t pc); /* the calling coroutine was blocked at pc; 0: unknown */
/* (signal) returns, unless the fault is a dump's own that met a stack in use */
void dump_on_fault(void);
extern const char *const reason_name[WHY_MAX];
void debug_init(void); /* parse WEFT_DEBUG: sched.chaos ... */
/* Lo - 1: unset, or not a number in range (said once) */
int64_t debug_env_int(const char *name, int64_t lo, int64_t hi);
#ifdef WEFT_CHECKED
#define rt_assert(x) ((x) ? (void)0 : fatal("assertion failed: %s (%s:%d)", #x, __FILE__, __LINE__))
#else
#define rt_assert(x) ((void)0)
#endif

/* ---- lock.c: short locks ------------------------------------------------------ */

void lock_contended(Lock *l);  /* take word */
void lock_drain_fast(Lock *l); /* word is ours: wait for the last fast holder */
void lock_wake(Lock *l);
void solo_end(void);   /* S held. From now on locks are contended */
void solo_enter(M *m); /* m has taken a P */
#ifdef WEFT_CHECKED
void lock_note_acquire(M *m, Lock *l, enum Rank rank);
void lock_note_release(Lock *l);
bool lock_held(const Lock *l); /* by this thread */
#define assert_held(l) rt_assert(lock_held(l))
#else
#define assert_held(l) ((void)0)
#endif

static inline void lock_acquire(M *m, Lock *l, enum Rank rank)
{
    (void)rank;
    if (m != NULL && likely(get(&m->solo))) {
        set(&l->fast, 1);
        atomic_signal_fence(memory_order_seq_cst); /* pairs with membarrier in solo_end() */
        if (likely(get(&m->solo))) {
            l->by_fast = 1;
            goto held;
        }
        set_rel(&l->fast, 0);
    }
    uint32_t free = 0;
    if (unlikely(!atomic_compare_exchange_strong_explicit(&l->word, &free, 1, memory_order_acquire,
                                                          memory_order_relaxed)))
        lock_contended(l);
    if (unlikely(get_acq(&l->fast) != 0))
        lock_drain_fast(l);
    l->by_fast = 0;
held:;
#ifdef WEFT_CHECKED
    lock_note_acquire(m, l, rank);
#endif
}

/* In a signal handler: true if it is ours now. By word, as with m == NULL; nobody
 * who holds sched.lock holds it fast. */
static inline bool lock_try(Lock *l, enum Rank rank)
{
    (void)rank;
    uint32_t free = 0;
    if (!atomic_compare_exchange_strong_explicit(&l->word, &free, 1, memory_order_acquire,
                                                 memory_order_relaxed))
        return false;
    l->by_fast = 0;
#ifdef WEFT_CHECKED
    lock_note_acquire(NULL, l, rank);
#endif
    return true;
}

static inline void lock_release(Lock *l)
{
#ifdef WEFT_CHECKED
    lock_note_release(l);
#endif
    if (likely(l->by_fast)) {
        set_rel(&l->fast, 0);
        return;
    }
    uint32_t w = get(&l->word);
    set_rel(&l->word, 0);
    if (unlikely(w == 2))
        lock_wake(l);
}

/* ---- random choice ---------------------------------------------------------- */

static inline uint64_t rng_next(uint64_t *s) /* xorshift64*; never 0 */
{
    uint64_t x = *s;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *s = x;
    return x * 0x2545F4914F6CDD1DULL;
}
static inline uint32_t rng_below(uint64_t *s, uint32_t n)
{
    return (uint32_t)(((rng_next(s) >> 32) * n) >> 32);
}
/* Chaos: true one time in n, at a place where either choice is right. */
static inline bool chaos(M *m, uint32_t n)
{
    return unlikely(get(&sched.chaos) != 0) && rng_below(&m->rng, n) == 0;
}
/* The same: somebody else first. */
static inline M *chaos_yield(M *m, uint32_t n)
{
    return unlikely(get(&sched.chaos) != 0) && m->p != NULL && chaos(m, n)
               ? sched_yield_to_others(m)
               : m;
}

#endif
