/* SPDX-License-Identifier: MIT
 *
 * rt.h: the runtime's data, and who may touch what. Every file of runtime/ includes it. What they
 * call of one another is, by subject, in the headers at its end.
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
#define WEFT_NO_INLINE /* fast.c */
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
struct Place;

/* ---- lock.c: short locks ------------------------------------------------
 * See lock.c for the biased mode that makes them free while one thread runs. */

enum Rank {
    RANK_LIFE,   /* weft_run's start and stop */
    RANK_CTX,    /* a context */
    RANK_CHAN,   /* a channel */
    RANK_LOT,    /* a bucket of the address-keyed wait table */
    RANK_FD,     /* a descriptor's record */
    RANK_KNOWN,  /* coroutines by id: one of several lists */
    RANK_CLAIM,  /* the right to start an idle timer: timer.c */
    RANK_TIMERS, /* a P's timer heap */
    RANK_CALLS,  /* calls of timers' functions: callback.c */
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
    WHY_RLOCK,
    WHY_RWLOCK,
    WHY_COND,
    WHY_SEM,
    WHY_TIMER, /* for the end of a timer's function */
    WHY_IO,
    WHY_JOIN,
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
        struct {
            uint32_t dirs; /* (c) while queued: WEFT_READ, WEFT_WRITE; netpoll.c */
            uint32_t gen;  /* (m) of the descriptor's record: select_fd.c */
        };
        uint64_t word; /* what elem points to, if not to the user's place: bounce.c */
    };
    bool select;    /* (c) while queued: the waker must win wait_claim() first */
    uint8_t queued; /* queue's lock; not 0: it is. lot.c has kinds */
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
 *   type-stable, or the copy must be all it needs, or the timer owns a reference
 *   to it, which goes to who takes it out of its heap: refs.h. For the last, fn:
 *   if not NULL it is called with arg, without a lock, in place of fire when the
 *   run ends before. */
typedef void TimerFire(M *m, Timer *copy);

/* What a heap needs of a timer. A G has no more of one: there may be millions. */
typedef struct {
    int64_t when;    /* heap's lock while pending */
    TimerFire *fire; /* heap's lock while pending; of a G always NULL */
    uint64_t seq;    /* heap's lock while pending; fire's to compare */
    _Atomic(P *)
        heap;     /* (a) whose heap it is in; NULL: not pending. Written under P's lock: timer.c */
    uint32_t idx; /* heap's lock: place in it */
    _Atomic uint32_t life; /* (a) which timer at this address: callback.c; of a G unused */
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
    G_KNOWN = 512,        /* (m) it may be cancelled: known.c */
    G_GROUP = 1024,       /* (c) wg is a weft_group_t's */
    G_ON_CHAN = 2048,     /* (m) in a wait for one channel that may be cancelled: wait.on is that */
    G_UNLISTED = 4096,    /* (m) it should be known, but there was no memory */
    G_TIMER = 8192,       /* (c) a call of a timer's function */
    G_NOTED = 16384,      /* (m), (w): that it is made ready and runs is noted: events.h */
    G_READY_ODDLY = G_FOREIGN | G_NOTED,
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
    union {
        weft_wg_t *wg; /* (c) weft_wg_go: counted down when fn has returned; or NULL. G_GROUP */
        struct {
            uint32_t share, at; /* G_TIMER: (c); share's lock. Its place in callback.c's lists */
        } callback;
    };
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
    struct Extra *x;     /* (m) what few have, or NULL: known.h; dumps look under coro_lock_all() */
    Wait *cases;         /* (m) its block, kept for the next wait: bounce.c */
    int64_t since;       /* (m) P's coarse clock when it parked; events.c */
    uint32_t block_size; /* (window's lock) 0: no block */
    Wait wait;
    union {
        TimerHead timer;         /* sleep and deadlines */
        int (*group_fn)(void *); /* (c) until it has begun to run: group.c */
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
enum { LATENCIES = WEFT_LATENCIES };
enum PState { P_IDLE, P_RUNNING, P_DEAD };

struct P {
    /* The ring: runq.c. */
    _Alignas(CACHE_LINE) _Atomic uint32_t head; /* (a) who takes; CAS if stealable */
    _Atomic uint32_t tail;                      /* (a) owner */
    _Atomic(G *) runnext;                       /* (a) */
    _Atomic uint32_t attention; /* (a) ATT_*: set by any, acted on and cleared by (m) */
    _Atomic bool stealable;     /* (a) set by (m), for good: others may take */
    _Atomic bool waking;   /* (a) (m) is in the call that wakes another one; a hint to thieves */
    uint8_t streak;        /* (m) runs from runnext in a row */
    uint32_t turns;        /* (m) looks at the oldest */
    _Atomic uint32_t tick; /* (a) picks; written by (m) */
    uint32_t ticked;       /* (m) tick at the last sched_tick() */
    int64_t now;           /* (m) coarse clock: of the last housekeeping */
    int64_t polled;        /* (m) when this P last looked at the poller */
    _Atomic(M *) m;        /* (a) the M that holds it, NULL while it changes hands; see monitor.c */
    uint64_t rng;          /* (m) */

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
    uint32_t starts;                         /* (m) that could be sampled: events.c */
    _Atomic uint64_t latency[LATENCIES];     /* (a) counters; bump() by (m) */
};

/* ---- M ----------------------------------------------------------------------- */

/* Runs right after the parking G's context is saved, on whatever context comes
 * next: from here on g may be resumed elsewhere. Typically releases the lock
 * under which g was queued. Returns false to take the park back: g is then
 * made runnable at once. Must not park or be long. */
typedef bool Commit(M *m, G *g, void *arg);

/* A park with a deadline, or that may be cancelled: until.c. */
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
    _Atomic uint32_t poking;    /* (a) so many use tick: the monitor, a dump. Raised under S */
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
    uintptr_t left;     /* (m) where library code would return, but for the end of the run */
    bool abandoned;     /* (m) it left the run out of a signal handler */
    bool ends;          /* (m) its coroutine has ended pinned: so does this thread */
    bool gone;          /* (S) and never has a P again: hold.c */
    bool starved;       /* (m) there was no memory to save a stack */
    int64_t held_since; /* (S) */
    ArchContext at;     /* (S) where g stands still, for dumps */
    bool at_call;       /* (S) at.pc is a return address */
    _Atomic(struct Place *) where; /* (a) a dump asks where it is: where.c */
    SysCpus cpus;                  /* who wakes this M: where it may run, if */
    bool here;                     /* its CPU was chosen (hold.c) */
    SysTick tick;                  /* (m); its period and nudges others, too, while `poking` */
    _Atomic uint32_t park;         /* (a) park word: 0 asleep or about to, 1 token */
    uint64_t rng;                  /* (m) */
    M *link;                       /* (S) idle list, or free list of foreign Ms */
    M *all;                        /* (S) list of all Ms */
    uint32_t id;                   /* (c) */
    int tid;                       /* (c) */
    G g0;             /* the thread's own context; for a foreign M, the G that stands for it */
    SysThread thread; /* (c) */
    struct TraceRing *ring; /* (m), its handler too: trace.c */
    void *altstack;         /* (c) */
    void *room;             /* (c) what rt_alloc_room() holds until the thread runs */
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
    _Atomic uint32_t noting; /* (a) NOTE_*: events.h; written under S */
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
    uint32_t n_held;                /* (S) Ms whose coroutine stands still, and gone ones */
    uint32_t n_out;                 /* (S) Ms whose P was taken: LEASE_TAKEN */
    uint32_t threads_max;           /* (c) */
    M *all_ms;                      /* (S) */
    M *dead_ms;                     /* (S) exited, to be joined and freed */
    _Atomic uint32_t foreign;       /* (a) attached foreign Ms */
    M *m0;                          /* (c) the thread in weft_run */
    int64_t began;                  /* (c) when the run did */
    int result;                     /* main's value; main writes, m0 reads */
    size_t stack_max;               /* (c) */
    int stack;                      /* (c) WEFT_STACK_*, the default */
    int stack_class;                /* (c) of weft_go() */
    bool stackshare;                /* (c) WEFT_DEBUG=stackshare */
    uint32_t windows_most;          /* (c) WEFT_DEBUG=windows; 0: as many as usual */
    int64_t slice;                  /* (c) ns of CPU time; 0: no preemption */
    enum { TICK_ANY, TICK_TIMER, TICK_PERF } tick; /* (c) WEFT_DEBUG=tick=... */
    bool valgrind;                                 /* (c) the program runs in valgrind */
    bool storm;                       /* (c) WEFT_DEBUG=preempt=<us>: each tick ends the slice */
    int64_t blockwarn;                /* (c) ns, 0: off: WEFT_DEBUG=blockwarn=<ms> */
    bool threads;                     /* (c) WEFT_DEBUG=threads=1: each coroutine pins its thread */
    int64_t schedtrace;               /* (c) ns, 0: off: WEFT_DEBUG=schedtrace=<ms> */
    int64_t top;                      /* (c) ns, 0: off: WEFT_DEBUG=top[=<ms>] */
    bool leaks;                       /* (c) WEFT_DEBUG=leaks */
    bool sigquit;                     /* (c) WEFT_DEBUG=sigquit, or WEFT_SIGQUIT */
    bool latencies;                   /* (c) WEFT_DEBUG=latencies */
    int64_t stuck;                    /* (c) ns, 0: off: WEFT_DEBUG=stuck=<ms> */
    _Atomic bool deadlock;            /* (a) WEFT_DEBUG=deadlock: cycles.c; changes between runs */
    _Atomic bool quick;               /* (a) a run that is not watched so: locks may get READY */
    uint32_t system_threads;          /* (S) threads of weft's that are not Ms */
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

#include "scheduler.h" /* what runs next */
#include "life.h"      /* coroutines, Ms and Ps come and go */
#include "ctx.h"       /* coroutines that end with a context */
#include "known.h"     /* coroutines that somebody knows by their id */
#include "stacks.h"    /* stacks, private and copied */
#include "base.h"      /* what every file needs; last, as it calls the others */
#include "events.h"    /* what those see who look on */

#endif
