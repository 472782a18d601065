/* SPDX-License-Identifier: MIT
 *
 * rt.h: the runtime's one private header.
 *
 * G  a coroutine.          M  an OS thread.        P  a processor: the right to
 * run coroutines, with a queue of its own; there are `procs` of them. An M runs
 * coroutines only while it holds a P.
 *
 * Key to the fields: who may touch them, and under what.
 *   (m) the M that runs this G, or holds this P; after a hand-over the next one
 *   (c) constant once the object is published
 *   (a) atomic; the comment at its use says with what it pairs
 *   (l) the lock in the same struct     (S) sched.lock
 *   (w) the waker: whoever took the waiter out of its queue
 *
 * Lock order: enum Rank, ascending; locks of one rank are taken in address
 * order (select). No lock is held across a park, save that of a commit (below).
 *
 * Errors are -errno. Runtime code does not use errno.
 */
#ifndef WEFT_RT_H
#define WEFT_RT_H

#include "config.h"

#define WEFT_KEEP_ERRNO
#include "weft.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "arch/arch.h"
#include "sys/sys.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define container_of(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))
#define CACHE_LINE 64

/* Relaxed accesses by name: counters and flags that order nothing. */
#define get(p) atomic_load_explicit(p, memory_order_relaxed)
#define set(p, v) atomic_store_explicit(p, v, memory_order_relaxed)
#define get_acq(p) atomic_load_explicit(p, memory_order_acquire)
#define set_rel(p, v) atomic_store_explicit(p, v, memory_order_release)
/* Add to a counter that one thread writes and any may read: no locked instruction. */
#define bump(p, n) set(p, get(p) + (n))

typedef struct G G;
typedef struct M M;
typedef struct P P;
typedef struct Slot Slot;
typedef struct Window Window;

/* ---- lock.c: short locks ------------------------------------------------
 * See lock.c for the biased mode that makes them free while one thread runs. */

enum Rank {
    RANK_LIFE,   /* weft_run's start and stop */
    RANK_CHAN,   /* a channel */
    RANK_SEMA,   /* a bucket of the address-keyed wait table */
    RANK_FD,     /* a descriptor's record */
    RANK_CLAIM,  /* the right to start an idle timer: timer.c */
    RANK_TIMERS, /* a P's timer heap */
    RANK_SCHED,  /* sched.lock */
    RANK_WINDOW, /* a window of copied stacks */
    RANK_ARENA,  /* stack slots, G slabs */
    RANK_LEAF,   /* nothing is taken under these */
};

typedef struct {
    _Atomic uint32_t word; /* 0 free, 1 held, 2 held and somebody may sleep on it */
    _Atomic uint8_t fast;  /* held, or being tried, by the M that has m->solo */
    uint8_t by_fast;       /* how the holder holds it; written by the holder */
} Lock;

void lock_contended(Lock *l);  /* take word */
void lock_drain_fast(Lock *l); /* word is ours: wait for the last fast holder */
void lock_wake(Lock *l);
#ifdef WEFT_CHECKED
void lock_note_acquire(M *m, Lock *l, enum Rank rank);
void lock_note_release(Lock *l);
bool lock_held(const Lock *l); /* by this thread */
#define assert_held(l) rt_assert(lock_held(l))
#else
#define assert_held(l) ((void)0)
#endif

/* ---- waiting --------------------------------------------------------------- */

/* What a parked G waits for: Go's names, in dump.c. */
enum Reason {
    WHY_NONE,
    WHY_CHAN_RECV,
    WHY_CHAN_SEND,
    WHY_CHAN_NIL_RECV,
    WHY_CHAN_NIL_SEND,
    WHY_SELECT,
    WHY_SELECT_EMPTY,
    WHY_SLEEP,
    WHY_MUTEX,
    WHY_WG,
    WHY_IO,
    WHY_YIELD,
    WHY_START,     /* never ran yet */
    WHY_PREEMPTED, /* runnable, its slice was over */
    WHY_SYSCALL,   /* running, and its P was taken */
    WHY_WINDOW,    /* it could run, but its stack's window is in use */
    WHY_MAX
};

/* A G's place in one wait queue. Each G has one of its own; select uses a block
 * of more (g->cases). Linked and unlinked under the queue's lock. */
typedef struct Wait {
    struct Wait *next, *prev; /* queue's lock */
    G *g;                     /* (c) while queued */
    void *on;                 /* (c) while queued: the channel, or the address waited on */
    void *elem; /* (c) while queued: element to copy from or to; the waker may write there */
    union {
        uint32_t dirs; /* (c) while queued: WEFT_READ, WEFT_WRITE; netpoll.c */
        uint64_t word; /* what elem points to, if not to the user's place: bounce.c */
    };
    bool select;    /* (c) while queued: the waker must win wait_claim() first */
    bool queued;    /* queue's lock */
    uint16_t size;  /* (m) of what elem points to: bounce.c */
    int32_t result; /* (w), read by the owner once it runs again */
} Wait;

typedef struct {
    Wait *head, *tail; /* FIFO */
} WaitQueue;

/* ---- timer.c ---------------------------------------------------------------- */

typedef struct Timer Timer;
/* What a due timer does. Two kinds:
 * - fire NULL: it is a G's (seq: its wait's serial), nothing but a head, and wakes
 *   that G (result -ETIMEDOUT, woke NULL) under the heap's lock:
 *   wait_claim() first, then t->heap = NULL, then the G is made ready. As the G
 *   frees the head inside it only after timer_del(), which takes the lock while
 *   t->heap is set, neither can be gone.
 * - every function is called without a lock on a copy of its Timer, which is out
 *   of its heap already. It must not park. What arg points to must be
 *   type-stable, or the copy must be all it needs. */
typedef void TimerFire(M *m, Timer *copy);

/* What a heap needs of a timer. A G has no more of one: there may be millions. */
typedef struct {
    int64_t when;    /* heap's lock while pending */
    TimerFire *fire; /* heap's lock while pending; of a G always NULL */
    uint64_t seq;    /* heap's lock while pending; fire's to compare */
    _Atomic(P *)
        heap;     /* (a) whose heap it is in; NULL: not pending. Written under P's lock: timer.c */
    uint32_t idx; /* heap's lock: place in it */
} TimerHead;

struct Timer { /* overlays weft_timer_t */
    TimerHead head;
    int64_t period;     /* heap's lock while pending */
    void (*fn)(void *); /* heap's lock while pending */
    void *arg;          /* heap's lock while pending */
};
_Static_assert(sizeof(Timer) <= sizeof(weft_timer_t), "weft_timer_t holds a Timer");

typedef struct {
    int64_t when; /* copy of t->when: no pointer to follow while sifting */
    TimerHead *t;
} TimerEntry;

typedef struct {
    Lock lock;
    TimerEntry *e;          /* (l) 4-ary heap */
    uint32_t n, cap;        /* (l) */
    uint32_t heap;          /* (l) e[0..heap) is the heap, e[heap..n) new entries in no order */
    _Atomic int64_t first;  /* (a) e[0].when, INT64_MAX when empty; written under lock */
    _Atomic uint32_t count; /* (a) n */
} Timers;

void timer_init(M *m, Timers *ts);
void timer_free(M *m, Timers *ts); /* drop all entries, free the array: end of a run */
/* The rest set before; t not pending. -ENOMEM */
int timer_add(M *m, TimerHead *t, int64_t when);
bool timer_del(M *m, TimerHead *t); /* true: it was pending and will not fire */
int64_t
timer_run(M *m, P *p,
          int64_t now); /* fire what is due in p's heap (any P's); its next deadline or INT64_MAX */
void timer_move(M *m, P *from, P *to); /* from is going away */

/* ---- G ----------------------------------------------------------------------- */

enum GState { G_DEAD, G_RUNNABLE, G_RUNNING, G_WAITING };
enum {
    G_FOREIGN = 1, /* stands for a thread that is not weft's */
    G_MAIN = 2,
    G_SYSTEM = 4,  /* an M's own context (g0) */
    G_MOVABLE = 8, /* WEFT_MOVABLE */
    /* Written by (m): */
    G_PINNED = 16,        /* weft_thread_lock(): parks in place */
    G_UNPREEMPTIBLE = 32, /* weft_preempt_disable() */
    G_OWN = 64,           /* (c) the runtime's: not counted, not shown */
    G_COPIED = 128,       /* (c) until it ends: its stack shares a window: copystack.c */
    G_UNGUARDED = 256,    /* from its first run on: its stack has no guard, stack.c */
    G_PARKS_ODDLY = G_FOREIGN | G_PINNED | G_UNPREEMPTIBLE | G_UNGUARDED
};

struct G {
    void *sp;           /* (m) saved stack pointer; NULL: never ran, or held */
    G *link;            /* owner of the list it is on: run queue, free list, batch */
    Slot *slot;         /* (m) its stack; NULL before the first run */
    M *m;               /* (m) the M that runs it; (c) for G_FOREIGN and G_SYSTEM */
    void (*fn)(void *); /* (c) */
    union { /* block once block_size is not 0: no save comes before coro_start() has read arg */
        void *arg;   /* (c) until then; nobody else reads it */
        void *block; /* (window's lock) copied: for its stack, while that is not in the window */
    };
    weft_wg_t *wg;          /* (c) weft_wg_go: counted down when fn has returned; or NULL */
    _Atomic uint64_t claim; /* (a) serial << 1 | claimed: see wait_claim() */
    Wait *woke;             /* (w) the wait that was granted */
    _Atomic uint8_t state;  /* (m), and (w) on waking; read racily by dumps */
    _Atomic uint8_t reason; /* (m) */
    uint16_t flags;         /* (c), but for those of (m) */
    uint8_t stack_class;    /* (c) stack.c */
    bool held;       /* (S) it stands still on the thread m, which waits for a P: preempt.c */
    _Atomic bool on; /* (a) copied: its window is in its use; written by (m) */
    uint8_t shallow; /* (window's lock) saves in a row that needed a quarter of block */
    uint16_t unpreemptible; /* (m) weft_preempt_disable() less enable() */
    uint16_t pins;          /* (m) weft_thread_lock() less unlock() */
    int32_t result;         /* (w) a plain word from waker to woken */
    int32_t saved_errno;    /* (m) */
    uint32_t ncases;        /* (m) Waits in cases */
    uint64_t id;            /* (c) */
    void *spawn_pc;         /* (c) return address of weft_go */
    char *name;             /* (m) allocated, or NULL */
    Wait *cases;            /* (m) its block, kept for the next wait: bounce.c */
    int64_t since;          /* (m) P's coarse clock when it parked */
    uint32_t block_size;    /* (window's lock) 0: no block */
    Wait wait;
    union {
        TimerHead timer; /* sleep and deadlines */
        void *
            place; /* (m) in a wait for a channel without one (timer.when): the receiver's element, bounce.c */
    };
    void *cxx[2]; /* (m) its exceptions, while it does not run: cxx.c */
#ifdef WEFT_TSAN
    void *fiber;
#endif
#ifdef WEFT_ASAN
    void *fake; /* (m) ASan's fake stack while not running */
#endif
};
#if !defined(WEFT_TSAN) && !defined(WEFT_ASAN)
_Static_assert(sizeof(G) <= 256, "of 5e9 bytes for ten million parked coroutines half is for Gs");
#endif

/* ---- P ----------------------------------------------------------------------- */

enum { RUNQ = 256, P_MAX = 1024, P_LENT = 1024 /* beyond, to be lent: monitor.c */ };
enum PState { P_IDLE, P_RUNNING, P_DEAD };

struct P {
    /* The ring: runq.c. */
    _Alignas(CACHE_LINE) _Atomic uint32_t head; /* (a) who takes; CAS if stealable */
    _Atomic uint32_t tail;                      /* (a) owner */
    _Atomic(G *) runnext;                       /* (a) */
    _Atomic uint32_t attention; /* (a) ATT_*: set by any, acted on and cleared by (m) */
    _Atomic bool stealable;     /* (a) set by (m), for good: others may take */
    uint8_t streak;             /* (m) runs from runnext in a row */
    uint32_t turns;             /* (m) looks at the oldest */
    _Atomic uint32_t tick;      /* (a) picks; written by (m) */
    uint32_t ticked;            /* (m) tick at the last sched_tick() */
    int64_t now;                /* (m) coarse clock: of the last housekeeping */
    int64_t polled;             /* (m) when this P last looked at the poller */
    _Atomic(M *) m; /* (a) the M that holds it, NULL while it changes hands; see monitor.c */
    uint64_t rng;   /* (m) */

    G *free;                  /* (m) dead Gs to use again */
    uint32_t nfree;           /* (m) */
    uint32_t nslots;          /* (m) warm slots in slots[] */
    uint32_t credits;         /* (m) stack reservations in hand: stack.c */
    uint64_t id_next, id_end; /* (m) ids to give out */
    Slot *slots[16];          /* (m) warm slots, LIFO; default class only */
    Window *windows;          /* (m) free ones, LIFO: window.c */
    uint32_t nwindows;        /* (m) */
    uint32_t window_turn;     /* (m) which to share next */
    int block_cache;          /* (m) block.c; 0: none yet */

    /* Counters, read by any: bump() by the M that holds the P; fired under timers.lock. */
    _Atomic uint64_t spawned, exited, switches, steals, fired;
    _Atomic uint64_t window_saves, window_loads, copied_bytes; /* the sum counts */

    _Alignas(CACHE_LINE) _Atomic(G *) ring[RUNQ]; /* (a) */
    _Alignas(CACHE_LINE) Timers timers;
    _Atomic uint8_t state; /* (a) enum PState; written under S, or by (m) */
    uint32_t id;           /* (c) */
    P *link;               /* (S) idle list */
    bool spare;            /* (S) dead, empty, nobody's: it may be lent */
    /* preempt.c. Each of the ticks says something of what runs now if it equals tick. */
    _Atomic uint32_t hog_tick; /* (a) it is a hog; written by (m) */
    uint32_t over_tick;        /* (m) its slice is over */
    _Atomic uint32_t
        spared_tick; /* (a) written by (m): a hog in a turn of its own: let it have its slice */
    _Atomic bool give_way; /* (a) something more urgent waits; set by the monitor */
    int64_t hog_ran;       /* (m) when a hog last began to run here */
    _Atomic uint64_t flagged, handed, moved; /* (a) counters; bump() by (m) */
};

/* Where a preempted coroutine queues: hogs.c. NOT: its slice is not over, nor ever was; URGENT: it may
 * hold locks that everybody needs. */
enum HogPlace { HOG_LAST, HOG_FIRST, HOG_NOT, HOG_URGENT };

/* ---- M ----------------------------------------------------------------------- */

/* Runs right after the parking G's context is saved, on whatever context comes
 * next: from here on g may be resumed elsewhere. Typically releases the lock
 * under which g was queued. Returns false to take the park back: g is then
 * made runnable at once. Must not park or be long. */
typedef bool Commit(M *m, G *g, void *arg);

/* A park with a deadline: sched.c. */
typedef struct {
    Commit *commit;
    void *arg;
    int64_t deadline;
} Until;

struct M {
    G *g;                         /* (m) what runs now; g0 while scheduling */
    P *p;                         /* (m) NULL: foreign, or idle */
    _Atomic uint8_t solo;         /* (a) lock.c: this M alone may use fast locks */
    bool spinning;                /* (m) counted in sched.spinning */
    bool in_bed;                  /* (S) on sched.idle_ms */
    bool foreign;                 /* (c) */
    bool monitor;                 /* (c) */
    bool trimming;                /* (m) stack_trim() had more to do */
    int64_t trimmed;              /* (m) when it was last called */
    _Atomic bool joinable;        /* (a) thread is set: its creator has come back */
    _Atomic uint32_t preempt_off; /* (a) (m) writes; > 0: inside the runtime */
    _Atomic uint32_t lease;       /* (a) enum Lease: whose is p? syscall.c */
    _Atomic uint32_t calls;       /* (a) declared blocking calls; bump() by (m) */
    P *was_p;                     /* (S) the P that was taken from it */
    int64_t out_since;            /* (S) when */
    int64_t told;                 /* (S) out_since, if copystack_watch() has told of that call */
    int64_t out_for;              /* (m) for how long it was without one, the last time */
    uintptr_t out_at;             /* (S) where it was in the kernel: WEFT_DEBUG=blockwarn */
    bool declared;                /* (m) within a declared blocking call */
    Commit *commit;               /* (m) pending commit of prev */
    void *commit_arg;             /* (m) nothing on prev's stack, if that is copied */
    Until until;                  /* (m) what commit_until() is to do */
    G *prev;                      /* (m) what was switched away from */
    int *errno_addr;              /* (c) this thread's errno */
    void **cxx;                   /* (c) this thread's exceptions; NULL: no C++ runtime */
    P *next_p;                    /* who wakes this M writes it before the wake: the P to run */
    G *give;                      /* (m) held: on g0, give it our P */
    G *enter;                     /* (m) copied: on g0, see that it gets its window */
    _Atomic bool request; /* (a) (m) its handler and itself: look at the lowering of preempt_off */
    _Atomic bool poking;  /* (a) the monitor uses tick: monitor.c */
    _Atomic bool in_kernel;     /* (a) end of a run: it was blocked there when it was poked */
    _Atomic bool again;         /* (a) set by (m), cleared by the monitor: poke it again soon */
    bool ticking;               /* (c) tick has a source */
    bool leaving;               /* (S) this thread's tick is about to end */
    bool was_blocked;           /* (m) during a fork: the user has blocked the tick's signal */
    uint32_t tries, tries_tick; /* (m) times it would have been stopped but for where it was */
    uint32_t seen_tick;         /* (m) p->tick at the last tick of the clock */
    P *seen_p;                  /* (m) p then */
    bool holds;                 /* (S) g stands still here: hold.c */
    bool urgent;                /* (S) in library code */
    bool hog;                   /* (S) its slice was over */
    bool took_over;             /* whoever wakes it from bed: the P is from a handler */
    _Atomic bool arranged;      /* (a) it will return to preempt_left(); (m) writes */
    uintptr_t left;        /* (m) where library code would return, but for the end of the run */
    bool abandoned;        /* (m) it left the run out of a signal handler */
    bool starved;          /* (m) there was no memory to save a stack */
    int64_t held_since;    /* (S) */
    SysCpus cpus;          /* who wakes this M: where it may run, if */
    bool here;             /* its CPU was chosen (hold.c) */
    SysTick tick;          /* (m); its period and nudges the monitor, too, while `poking` */
    _Atomic uint32_t park; /* (a) park word: 0 asleep or about to, 1 token */
    uint64_t rng;          /* (m) */
    M *link;               /* (S) idle list, or free list of foreign Ms */
    M *all;                /* (S) list of all Ms */
    uint32_t id;           /* (c) */
    int tid;               /* (c) */
    G g0;                  /* the thread's own context; for a foreign M, the G that stands for it */
    SysThread thread;      /* (c) */
    void *altstack;        /* (c) */
    void *room;            /* (c) what rt_alloc_room() holds until the thread runs */
#ifdef WEFT_CHECKED
    struct {
        Lock *l;
        enum Rank rank;
    } held[64 + 2]; /* (m) innermost last */
    uint32_t nheld;
#endif
#ifdef WEFT_ASAN
    const void *stack_lo; /* (c) this thread's own stack, for the fiber calls */
    size_t stack_size;
#endif
};

/* syscall.c. Whose is the P of a thread that may be blocked in the kernel? */
enum Lease {
    LEASE_OWN,   /* its own */
    LEASE_ASKED, /* the monitor asks for it; either may decide */
    LEASE_CALL,  /* a declared blocking call: whoever turns it into OWN or TAKEN has it */
    LEASE_TAKEN  /* gone: m->p is NULL */
};

/* ---- the scheduler ------------------------------------------------------------ */

/* Bits of P.attention: the switch leaves its fast path while any is set. */
enum {
    ATT_STOP = 1,  /* the run ends */
    ATT_PROCS = 2, /* the number of processors has changed */
    ATT_CHAOS = 4, /* choose at random; stays set */
    ATT_HOG = 8    /* a hog goes first, once */
};

typedef struct {
    G *head, *tail; /* by link: glist.h */
} GList;

struct Sched {
    /* Read by every switch, written seldom. */
    _Atomic uint32_t procs;  /* (a) written under S */
    _Atomic uint32_t hogs_n; /* (a) length of the queues in hogs.c; written under S */
    _Atomic bool active;     /* (a) between start and stop of a run */
    _Atomic bool stopping;   /* (a) main has returned */
    _Atomic bool solo;       /* (a) lock.c; written under S */
    _Atomic bool forked;     /* (a) set in a forked child for good */
    P *p[P_MAX +
         P_LENT]; /* slot i is set before procs > i is published; freed at the end of a run */
    _Atomic uint32_t np; /* (a) Ps that exist; only grows, under S; p[] first */

    _Alignas(CACHE_LINE) _Atomic uint32_t idle_p; /* (a) Ps on the idle list; written under S */
    _Atomic uint32_t spinning;                    /* (a) Ms looking for work */
    _Atomic uint32_t runq_n;    /* (a) length of the global queue; written under S */
    _Atomic uint32_t waiters;   /* (a) Gs parked on descriptors */
    _Atomic int64_t poll_until; /* (a) 0: nobody polls; else until when (idle.c) */
    _Atomic uint32_t poller;    /* (a) 1: somebody is in, or on the way to, a blocking wait */
    _Atomic uint32_t need_spin; /* (a) work was seen when no P was idle: idle.c */
    _Atomic uint32_t monitor;   /* (a) park word of the monitor: 0 asleep for long, 1 not */
    _Atomic int64_t polled;     /* (a) when somebody last looked at the poller */
    _Atomic bool watching;      /* (a) the monitor looks at declared calls by itself: syscall.c */

    _Alignas(CACHE_LINE) Lock lock; /* RANK_SCHED */
    GList runq;                     /* (S) global queue */
    GList back;                     /* (S) before it: held ones, back from the kernel */
    P *idle_ps;                     /* (S) */
    M *idle_ms;                     /* (S) LIFO: the warmest first */
    uint32_t n_idle_m;              /* (S) */
    uint32_t nm;                    /* (S) weft's Ms, m0 included */
    uint32_t making;                /* (S) 1: the thread of one of them may not be there yet */
    uint32_t n_held;                /* (S) Ms whose coroutine stands still with them */
    uint32_t n_out;                 /* (S) Ms whose P was taken: LEASE_TAKEN */
    uint32_t threads_max;           /* (c) */
    M *all_ms;                      /* (S) */
    M *dead_ms;                     /* (S) exited, to be joined and freed */
    _Atomic uint32_t foreign;       /* (a) attached foreign Ms */
    M *m0;                          /* (c) the thread in weft_run */
    int result;                     /* main's value; main writes, m0 reads */
    size_t stack_max;               /* (c) */
    int stack;                      /* (c) WEFT_STACK_*, the default */
    int stack_class;                /* (c) of weft_go() */
    bool stackshare;                /* (c) WEFT_DEBUG=stackshare */
    uint32_t windows_most;          /* (c) WEFT_DEBUG=windows; 0: as many as usual */
    int64_t slice;                  /* (c) ns of CPU time; 0: no preemption */
    enum { TICK_ANY, TICK_TIMER, TICK_PERF } tick; /* (c) WEFT_DEBUG=tick=... */
    bool storm;                       /* (c) WEFT_DEBUG=preempt=<us>: each tick ends the slice */
    int64_t blockwarn;                /* (c) ns, 0: off: WEFT_DEBUG=blockwarn=<ms> */
    bool threads;                     /* (c) WEFT_DEBUG=threads=1: each coroutine pins its thread */
    long guards_max;                  /* (c) 0: what the system allows: WEFT_DEBUG=guards=<n> */
    int signo;                        /* (c) of the tick */
    _Atomic uint64_t chaos;           /* (a) seed, 0: off; changes between runs */
    uint32_t m_serial;                /* (S) */
    _Atomic uint64_t polled_ready;    /* (a) Gs woken by descriptors; by whoever polls */
    _Atomic uint64_t ids;             /* (a) next id to give to a P's batch */
    _Atomic uint64_t foreign_spawned; /* (a) by threads without a P */
    _Atomic uint32_t own;             /* (a) coroutines that are the runtime's */
    _Atomic uint64_t retaken_calls, retaken_blocked; /* (a) counters; written under S */
    _Atomic uint32_t park_m0; /* (a) m0 waits here for the other Ms to leave */
};
extern struct Sched sched;

/* sched.c: switching. park() and friends return the M that runs the caller
 * now, which may not be the one it was called on; any M * from before is stale. */
/* Until sched_ready(); the waker's word is in m->g->result, m->g->woke */
M *sched_park(M *m, enum Reason why, Commit *commit, void *arg);
M *sched_park_unlock(M *m, enum Reason why, Lock *l); /* commit: release l */
/* The last thing of a call: what follows a wait for a channel, to the user's next instruction, is
 * chan_parked()'s. Nothing of the call stays on the stack. Only if sched_parks_last() */
int sched_park_last(M *m, enum Reason why, Lock *l);
static inline bool sched_parks_last(const G *g)
{
#if defined(WEFT_TSAN) || defined(WEFT_ASAN)
    (void)g;
    return false; /* a sanitizer wants each function to return where it was entered */
#else
    return likely((g->flags & G_PARKS_ODDLY) == 0);
#endif
}
M *sched_park_until_unlock(M *m, enum Reason why, Lock *l, int64_t deadline);
/* After wait_begin(); 0: none */
M *sched_park_until(M *m, enum Reason why, Commit *commit, void *arg, int64_t deadline);
/* g is parked and taken out of its queue: runs next on this P; m may be foreign or without a
 * P */
void sched_ready(M *m, G *g);
void sched_ready_tail(M *m, G *g);    /* the same, behind what is queued here */
void sched_try_again(G *g);           /* it could run all the time, but for what it needed */
void sched_ready_list(M *m, G *head); /* a list by link, in order; m may have no P */
M *sched_yield_to_others(M *m); /* behind everything queued here; returns at once when nothing is */
void sched_loop(M *m);   /* an M's life: on its own stack; returns when m->p is NULL for good */
void sched_arrive(M *m); /* first thing on every context switched to */
_Noreturn void sched_exit(M *m); /* the running G has ended */
void sched_tick(M *m);           /* every so many switches: due timers, the poller */
uint32_t sched_attend(M *m);     /* act on m->p's attention bits; on g0, no lock held */
/* The running coroutine, at a place where it may change threads: it is a hog */
M *sched_give_way(M *m, enum HogPlace place);
void sched_run_timers(M *m); /* those that are due, on every P */

/* runq.c */
void runq_put(P *p, G *g);            /* owner: at the tail; half of a full ring is spilled */
void runq_put_next(M *m, P *p, G *g); /* owner: into runnext; what was there goes to the tail */
G *runq_get(P *p);                    /* owner: from the ring */
G *runq_take_next(P *p);              /* owner */
bool runq_empty(P *p);                /* any */
uint32_t runq_len(P *p);              /* any, a snapshot */
/* Owner of p: half of victim's ring into p's; returns one of them */
G *runq_steal(P *p, P *victim, bool next);
void runq_drain(P *p, G **head, G **tail, uint32_t *n); /* owner: all, as a list */
void runq_put_global(G *head, G *tail, uint32_t n);     /* takes S; list linked by link */
void runq_put_back(G *g); /* S held: a held one, back from the kernel; before the global queue */
G *runq_get_back(void);   /* S held: the first of these, or NULL */
G *runq_get_global(M *m, P *p); /* takes S; a fair share, one to run, the rest goes into p's ring */
G *runq_get_held(void);         /* S held: the first in the global list that is held, or NULL */
G *runq_get_oldest(P *p);       /* takes S; one that has waited longest outside of the rings */

/* hogs.c: those that have used up their slice */
void hogs_put(G *g, enum HogPlace place); /* S held */
G *hogs_get(P *p);                        /* takes S; the next */
G *hogs_get_turn(P *p);                   /* takes S; the next hog */
G *hogs_get_aside(void);                  /* takes S; the next that is no hog */
G *hogs_get_held(void);                   /* S held: the next, if it is held; NULL otherwise */
bool hogs_next_is_held(void);             /* S held: there is such a one */
G *hogs_find_held(void);                  /* S held: the first that is held, or NULL */
G *hogs_get_urgent(int64_t since); /* S held: a held one that has been urgent since then, or NULL */
bool hogs_urgent(void);            /* there is one */
bool hogs_due(P *p);               /* owner: have they waited long enough to go first? */
void hogs_reset(void);

/* preempt.c */
int preempt_start(void); /* start of a run */
void preempt_end(void);
void preempt_thread_enter(M *m); /* the calling thread may be interrupted from now on */
void preempt_thread_leave(M *m);
void preempt_hasten(M *m);        /* the monitor: ticks as often as they should be */
void preempt_pending(bool parks); /* m->request was seen at a lowering of preempt_off */
bool preempt_is_hog(P *p);        /* (signal) what runs on p is one */
bool preempt_work_waits(void);    /* (signal) something woken could run instead of a hog */
uintptr_t preempt_left(void);     /* arch_left_entry's */
void preempt_forked(const M *m);  /* m is the thread that lives on in the child */
void preempt_insist(void);        /* end of a run: from now on library code is stopped too */
void preempt_say(void);           /* end of a run: what was stopped there */

/* hold.c: coroutines that stand still on their threads */
void hold_give(M *m, G *g); /* on g0: g is held; its thread gets our P. m->p is NULL then */
bool hold_give_next(M *m);  /* end of a run: the same for any held one; false: there is none */
bool hold_end_one(P *p);    /* S held: the same, by the monitor */
M *hold_park(M *m, Commit *commit, void *arg); /* a pinned coroutine parks, in place */
/* Stop the running coroutine in place if its P can be handed on; in a signal handler uc is its context */
enum Hold { HELD, HOLD_BUSY /* try again */, HOLD_NOBODY /* no thread can take the P */ };
enum Hold hold_running(M *m, void *uc, enum HogPlace place);
void hold_rescue(P *p, G *g);      /* S held: g is held and in no queue; p is nobody's */
_Noreturn void hold_abandon(M *m); /* end of a run: on to g0, for good */

/* S not held, in the monitor: p's M is in a declared call (lease CALL), or is ASKED. False: it keeps p */
bool hold_retake(M *m, P *p, uint32_t lease);
/* m's coroutine goes on, or (uc) its handler returns, with a P again. HOLD_BUSY: only in a handler */
enum Hold hold_return(M *m, void *uc);

/* syscall.c: a coroutine blocks in the kernel, its P does not */
void syscall_back(M *m);       /* rt_enter: m->lease is not OWN. m has a P afterwards */
uint32_t syscall_settle(M *m); /* (signal) preempt_off is raised: the lease, never ASKED */
void syscall_abandon(M *m);    /* end of a run: m leaves its coroutine; m->p is its own, or NULL */
void syscall_begin(M *m);      /* inside the runtime: a call to the kernel may block from here on */
void syscall_end(M *m);        /* to here */
int64_t syscall_watch(M *monitor, int64_t now); /* take what is to be taken; when to look again */
bool syscall_lasts(void); /* the monitor: a declared call was seen to take long */
void syscall_reset(void); /* start of a run */

/* spill.c: half rings */
/* Takes S; p's ring from head, and extra. false: no memory */
bool spill_put(P *p, uint32_t head, G *extra);
G *spill_oldest(void);                     /* S held */
uint32_t spill_take(G **to, uint32_t max); /* S held */
void spill_trim(void);                     /* S not held: free what is too many */
void spill_fini(void);                     /* end of a run */

/* idle.c: finding work, sleeping, waking */
G *idle_find(M *m); /* no work here: steal, poll, sleep. NULL: m->p is NULL and this M is to end */
void idle_wake_slow(void);
/* A heap has a new first entry: see that somebody waits for it */
void idle_timer_added(M *m, int64_t when);
void idle_poke(M *m);      /* somebody waits for a descriptor: see that somebody polls */
void idle_release_p(M *m); /* give m->p back */
void idle_put_p(P *p);     /* S held: onto the idle list */
P *idle_get_p(void);       /* S held: off it, or NULL */
M *idle_get_m(void);       /* S held: an M out of bed, or NULL; the caller must wake it with a P */
bool idle_take_p(P *p);    /* S held: this one off the list, if it is there */
P *idle_get_p_for(M *m);   /* S held: one for m, which begins to spin if somebody must; or NULL */
void idle_acquire(M *m, P *p);                   /* m holds p from now on */
int64_t idle_next_timer(void);                   /* earliest deadline of all heaps, INT64_MAX */
void idle_end_spin(M *m);                        /* m was looking and has found */
bool idle_check_deadlock(void);                  /* S held, this M is about to sleep */
uint32_t steal_step(uint32_t n, uint32_t start); /* 1..n, prime to n */
void idle_stop_all(void);                        /* end of a run: everybody out of bed */

/* thread.c: Ms */
M *thread_new(void);    /* with g0, not yet running; NULL: no memory */
int thread_start(void); /* a new M, without a P; the maker only. -errno */
void thread_free(M *m);
void thread_reap(void);  /* join and free what has exited */
void thread_enter(M *m); /* the calling thread is m from now on */
void thread_leave(M *m);

/* cxx.c: what a C++ runtime knows of the exceptions of a thread */
void cxx_init(void); /* start of a run */
/* arch_left's, called by the unwinder */
int cxx_left_personality(int version, int actions, uint64_t kind, void *exception, void *context);
void **cxx_of_thread(void); /* the calling thread's; NULL: there is no C++ runtime */
static inline void cxx_leave(const M *m, G *g)
{
    if (unlikely(m->cxx != NULL)) {
        g->cxx[0] = m->cxx[0];
        g->cxx[1] = m->cxx[1];
    }
}
static inline void cxx_arrive(const M *m, const G *g)
{
    if (unlikely(m->cxx != NULL)) {
        m->cxx[0] = g->cxx[0];
        m->cxx[1] = g->cxx[1];
    }
}

/* monitor.c: a thread without a P */
int monitor_start(void);
void monitor_stop(void);
void monitor_wake(void);    /* something runs again */
void monitor_suspect(void); /* a deadlock, but for other threads of the process: look again later */
void monitor_alarm(void);   /* (signal) there is something to do now */
M *monitor_holder(
    P *p); /* the monitor: the M that holds p, marked `poking`; NULL: p changes hands */
void monitor_let_go(M *m);

/* maker.c */
int maker_start(void);
void maker_stop(void);
void maker_want(void); /* (signal) see that an M is in bed, to take over a P from a handler */

/* coro.c */
/* Made, not yet queued */
int coro_spawn(M *m, const weft_attr_t *attr, void (*fn)(void *), void *arg, void *pc, G **out);
/* Outside of the runtime or within: weft_go() of a coroutine that nobody sees. name is constant */
int coro_go_own(void (*fn)(void *), void *arg, const char *name);
bool coro_bind(M *m, G *g); /* give g a stack: it is about to run. false: it waits for a window */
bool coro_reap(M *m, G *g, void *arg); /* commit: g has ended and is off its stack */
/* Every G that is not dead; racy while others run */
void coro_foreach(void (*fn)(G *, void *), void *arg);
/* The same, without the lock: nothing else runs */
void coro_foreach_alone(void (*fn)(G *, void *), void *arg);
void coro_start(void *m);             /* arch_prepare's entry */
void coro_set_name(G *g, char *name); /* g's name is name from now on; the old one is freed */
void coro_free_all(void);             /* end of a run */
void coro_flush(P *p);                /* p's free Gs back to their slabs */

/* procs.c */
int procs_set(M *m, uint32_t n); /* S not held */
int procs_add(void);             /* one more, dead; nothing is allocated by malloc. -ENOMEM */
P *procs_spare(void);            /* S held: one that may be lent, or NULL */
void procs_free_all(void);
void procs_put_back(M *m, P *p); /* p is nobody's any more, and no M can be had for it */
void procs_retire(M *m);         /* m->p is one too many: empty it; m->p is NULL then */

/* life.c, foreign.c */
/* This thread is not weft's: an M that stands for it; NULL: no memory or forked */
M *foreign_attach(void);
void foreign_detach(M *m);
M *foreign_park(M *m, Commit *commit, void *arg, int64_t deadline);
void foreign_ready(G *g);
/* m's wait was cancelled (result -ECANCELED) but a waker had taken it out already: wait
 * until that one is done */
void foreign_settle(M *m);
void foreign_cancel_all(void); /* end of a run: wake those that wait */
void foreign_wait_all(void);   /* end of a run: until none is inside the runtime */
void solo_end(void);           /* S held. From now on locks are contended: see lock.c */
void solo_enter(M *m);         /* m has taken a P */

/* Threads of the process that are not Ms: the monitor, the maker, and TSan's own. */
#ifdef WEFT_TSAN
enum { SYSTEM_THREADS = 3 };
#else
enum { SYSTEM_THREADS = 2 };
#endif

/* Work was made: have someone look for it, if a P is idle and nobody looks. The
 * load comes after the work was published: see idle.c, (b). */
static inline void idle_wake(M *m)
{
    (void)m;
    if (unlikely(atomic_load(&sched.idle_p) != 0))
        idle_wake_slow();
}

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

/* The M of the calling thread, inside the runtime. */
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

/* A select, and whatever waits with a deadline, can be woken from several
 * sides; the one that turns claim from serial<<1 to serial<<1|1 wakes it.
 * Stale wakers hold an older serial and fail. */
static inline bool wait_claim(G *g, uint64_t serial)
{
    uint64_t want = serial << 1;
    return atomic_compare_exchange_strong_explicit(&g->claim, &want, want | 1, memory_order_acq_rel,
                                                   memory_order_relaxed);
}
/* Owner, before it queues itself anywhere: a new serial. */
static inline uint64_t wait_begin(G *g)
{
    uint64_t serial = (get(&g->claim) >> 1) + 1;
    set(&g->claim, serial << 1);
    return serial;
}

/* ---- stack.c: private stacks ---------------------------------------------- */

struct Slot;                       /* stack.c */
int stack_init(size_t stack_max);  /* reserves nothing yet */
void stack_fini(void);             /* end of a run: everything back; no slot is in use */
int stack_class(size_t stack_max); /* the class for a wanted size; -EINVAL */
int stack_reserve(P *p, int cls);  /* a later stack_get(cls) cannot fail. p may be NULL. -ENOMEM */
void stack_unreserve(P *p, int cls);
/* A reserved slot: guard set, top page warm if it can be. p may be NULL */
Slot *stack_get(P *p, int cls);
/* Nothing runs on s any more; stack_unreserve() on the same P follows at once */
void stack_put(P *p, Slot *s);
void *stack_top(const Slot *s); /* where to start: 16-byte aligned, coloured */
void stack_bounds(const Slot *s, void **lo, void **hi);
void *stack_floor(const Slot *s); /* (signal) what lies below may be the guard */
bool stack_unguarded(const Slot *s);
/* What runs g is deep in g's stack, which has no guard: dies if that is too deep. */
void stack_check(G *g);
void stack_check_at(G *g, void *ucontext); /* (signal) the same of what the tick interrupted */
void stack_flush(P *p);                    /* p's warm slots and credits to the arena */
/* Give back memory of slots that have been free for a second; < 1 ms; true: call again */
bool stack_trim(int64_t now);
bool stack_trim_pending(void);
void stack_counts(uint64_t *slots, uint64_t *bytes);
bool stack_owns(const void *addr);               /* (signal) addr lies in a slot */
bool stack_on_fault(void *addr, void *ucontext); /* (signal) what sys_fault_install gets */
/* (signal) move g's guard down; false: overflow, or not ours */
bool stack_fault(G *g, void *addr, uintptr_t sp);

bool stack_deepen(
    Slot *s, size_t n); /* nobody is on it: room for n bytes above the guard. false: no memory */
void stack_give_back(Slot *s, char *sp); /* nobody is on it: the pages below sp, and the guard */
void stack_ready(Slot *s);               /* a slot that no arena knows: its guard */

/* ---- window.c, copystack.c: copied stacks ------------------------------------- */

enum { STACK_WINDOW = 255 }; /* in place of a class of slots */

static inline bool window_copied(const G *g)
{
    return (g->flags & G_COPIED) != 0;
}
void window_init(uint32_t procs, bool membarrier);
void window_fini(void);             /* end of a run: all of them */
int window_reserve(void);           /* a later coro_bind() finds a window. -ENOMEM */
void window_flush(P *p);            /* p's free windows are everybody's */
bool window_owns(const void *addr); /* (signal) addr lies in a window */
/* Others are about to wait for the object, or to wake who does: fatal if it lies on a copied stack */
void window_refuse(M *m, const void *object, const char *what);
/* (signal) After a fault: say who touched whose stack, if that is what it was */
void window_trespass(const M *m, const void *addr, void *ucontext);
bool window_trim(int64_t now); /* give back memory of windows not used for a second */
bool window_trim_pending(void);
void copystack_starved(M *m);      /* on g0: m->starved: wait a little */
bool copystack_wanted(const G *g); /* (signal) g runs, and somebody may wait for its window */
/* The monitor: tell of who is in the kernel for long and keeps others from their window. When to look again; INT64_MAX:
 * not before something has run */
int64_t copystack_watch(int64_t now);

/* ---- safepoint.c: what is being interrupted? ---------------------------------- */

int safepoint_init(void); /* start of a run: look at what is loaded. -ENOMEM */
void safepoint_fini(void);
/* (signal) pc lies in libc, the loader, an allocator or a sanitizer, or in code called from there as far
 * as the stack within lo..hi shows: locks that everybody needs may be held. */
bool safepoint_in_library(void *ucontext, const void *lo, const void *hi);
/* (signal) The end of a run: code interrupted in the library will go to preempt_left() when it has returned from
 * there, instead of to *from, if that can be arranged. */
enum Leave { LEAVE_OUTSIDE, LEAVE_INSIDE, LEAVE_ARRANGED };
enum Leave safepoint_leave(void *ucontext, const void *lo, const void *hi, uintptr_t *from);
/* (signal) The code interrupted at ucontext, and every caller of it up to the coroutine's entry, is proved to
 * keep nothing that belongs to its thread. lo..hi is its stack. No lock, no allocation, bounded. */
bool safepoint_movable(void *ucontext, const void *lo, const void *hi);

/* ---- netpoll.c --------------------------------------------------------------- */

int netpoll_init(void);
void netpoll_fini(void);
/* List (link) of Gs made ready; timeout as sys_poller_wait */
G *netpoll_look(M *m, int64_t timeout);

/* ---- signal.c, child.c -------------------------------------------------------- */

void signal_fini(void);   /* end of a run: nobody listens */
void signal_forked(void); /* (signal) in the child: the handlers that were there before */
void child_fini(void);    /* end of a run, before stacks are freed */

/* ---- sema.c: wait on an address ------------------------------------------------ */

void sema_reset(void); /* end of a run: nobody waits */

/* ---- chan.c, select.c ----------------------------------------------------------- */

/* End of a run, for a G that will not run again: take w out of its channel's
 * queue and drop its reference. Call it for each of g->cases[0..ncases), whatever
 * g's state (a select that was won but has not run yet still has its losers), and
 * for g->wait if g->reason is CHAN_RECV or CHAN_SEND. Does nothing for a Wait with
 * on == NULL. */
void chan_abandon(M *m, Wait *w);
int chan_parked(M *m); /* the end of a call that has waited for a channel: its result */

/* ---- alloc.c, fatal.c, dump.c, debug.c, stats.c --------------------------------- */

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
void dump_all(int fd);
void dump_init(void); /* load the unwinder */
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

#endif
