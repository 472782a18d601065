/* SPDX-License-Identifier: MIT
 *
 * scheduler.h: what runs next: switching, the queues, idle Ms, timers; how what runs is
 * interrupted. Part of rt.h. (There is a sched.h of the system's.)
 */
#ifndef WEFT_SCHEDULER_H
#define WEFT_SCHEDULER_H

/* ---- switching, waiting -------------------------------------------------------- */

/* Bits of P.attention: the switch leaves its fast path while any is set. */
enum {
    ATT_STOP = 1,   /* the run ends */
    ATT_PROCS = 2,  /* the number of processors has changed */
    ATT_CHAOS = 4,  /* choose at random; stays set */
    ATT_HOG = 8,    /* a hog goes first, once */
    ATT_CLOCK = 16, /* p->now is to be the time of the last switch: census.c; stays set */
    ATT_NOTE = 32   /* what is picked is noted: events.h; stays set while it is */
};

/* Where a preempted coroutine queues: hogs.c. NOT: its slice is not over, nor ever was; URGENT: it may
 * hold locks that everybody needs. */
enum HogPlace { HOG_LAST, HOG_FIRST, HOG_NOT, HOG_URGENT };

/* sched.c: switching. park() and friends return the M that runs the caller
 * now, which may not be the one it was called on; any M * from before is stale. */
/* Until sched_ready(); the waker's word is in m->g->result, m->g->woke */
M *sched_park(M *m, enum Reason why, Commit *commit, void *arg);
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
bool sched_commit_unlock(M *m, G *g, void *arg); /* a commit: release the lock arg */

/* until.c: others than a waker may end the wait. After wait_begin(), if wait_contested(); deadline 0: none */
M *sched_park_until(M *m, enum Reason why, Commit *commit, void *arg, int64_t deadline);
M *sched_park_until_unlock(M *m, enum Reason why, Lock *l, int64_t deadline);

/* sched.c */
/* g is parked and taken out of its queue: runs next on this P; m may be foreign or without a
 * P */
void sched_ready(M *m, G *g);
void sched_ready_tail(M *m, G *g);    /* the same, behind what is queued here */
void sched_try_again(G *g);           /* it could run all the time, but for what it needed */
void sched_ready_list(M *m, G *head); /* a list by link, in order; m may have no P */
M *sched_yield_to_others(M *m); /* behind everything queued here; returns at once when nothing is */
void sched_loop(M *m);   /* an M's life: on its own stack; returns when m->p is NULL for good */
void sched_arrive(M *m); /* first thing on every context switched to */
_Noreturn void sched_exit(M *m);        /* the running G has ended */
_Noreturn void sched_exit_pinned(M *m); /* and its thread is to end as well */
void sched_tick(M *m);                  /* every so many switches: due timers, the poller */
uint32_t sched_attend(M *m);            /* act on m->p's attention bits; on g0, no lock held */
/* The running coroutine, at a place where it may change threads: it is a hog */
M *sched_give_way(M *m, enum HogPlace place);
void sched_run_timers(M *m); /* those that are due, on every P */

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

/* ---- finding work -------------------------------------------------------------- */

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

/* spill.c: half rings */
/* Takes S; p's ring from head, and extra. false: no memory */
bool spill_put(P *p, uint32_t head, G *extra);
G *spill_oldest(void);                     /* S held */
uint32_t spill_take(G **to, uint32_t max); /* S held */
void spill_trim(void);                     /* S not held: free what is too many */
void spill_fini(void);                     /* end of a run */

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

/* idle.c: finding work, sleeping, waking */
G *idle_find(M *m); /* no work here: steal, poll, sleep. NULL: m->p is NULL and this M is to end */
void idle_wake_slow(void);
/* A heap has a new first entry: see that somebody waits for it */
void idle_timer_added(M *m, int64_t when);
void idle_poke(M *m);      /* somebody waits for a descriptor: see that somebody polls */
void idle_release_p(M *m); /* give m->p back */
void idle_put_p(P *p);     /* S held: onto the idle list */
M *idle_get_m(void);       /* S held: an M out of bed, or NULL; the caller must wake it with a P */
bool idle_take_p(P *p);    /* S held: this one off the list, if it is there */
P *idle_get_p_for(M *m);   /* S held: one for m, which begins to spin if somebody must; or NULL */
void idle_acquire(M *m, P *p);  /* m holds p from now on */
int64_t idle_next_timer(void);  /* earliest deadline of all heaps, INT64_MAX */
void idle_end_spin(M *m);       /* m was looking and has found */
bool idle_check_deadlock(void); /* S held, this M is about to sleep */
void idle_stop_all(void);       /* end of a run: everybody out of bed */

/* Work was made: have someone look for it, if a P is idle and nobody looks. The
 * load comes after the work was published: see idle.c, (b). */
static inline void idle_wake(M *m)
{
    (void)m;
    if (unlikely(atomic_load(&sched.idle_p) != 0))
        idle_wake_slow();
}

/* timer.c */
void timer_init(M *m, Timers *ts);
/* End of a run: drop all entries, free the array. No lock held */
void timer_free(M *m, Timers *ts);
/* The rest set before; t not pending. -ENOMEM */
int timer_add(M *m, TimerHead *t, int64_t when);
bool timer_del(M *m, TimerHead *t); /* true: it was pending and will not fire */
int64_t
timer_run(M *m, P *p,
          int64_t now); /* fire what is due in p's heap (any P's); its next deadline or INT64_MAX */
void timer_move(M *m, P *from, P *to); /* from is going away */

/* callback.c: calls of timers' functions */
/* t's heap is locked: make the coroutine of a call. -ENOMEM, -EAGAIN as coro_spawn() */
int callback_spawn(M *m, Timer *t, G **g);
void callback_end(M *m, G *g); /* its last step but sched_exit() */
void callback_reset(void);     /* end of a run: none is left */

/* netpoll.c */
int netpoll_init(void);
void netpoll_fini(void);
/* List (link) of Gs made ready; timeout as sys_poller_wait */
G *netpoll_look(M *m, int64_t timeout);

/* ---- interrupting -------------------------------------------------------------- */

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

/* where.c (signal): a dump asks what m's coroutine, which was interrupted at uc, is doing */
void where_answer(M *m, void *uc);

/* hold.c: coroutines that stand still on their threads */
void hold_give(M *m, G *g); /* on g0: g is held; its thread gets our P. m->p is NULL then */
bool hold_give_next(M *m);  /* end of a run: the same for any held one; false: there is none */
bool hold_end_one(P *p);    /* S held: the same, by the monitor */
M *hold_park(M *m, Commit *commit, void *arg); /* a pinned coroutine parks, in place */
bool hold_thread_ends(M *m); /* on g0: m->ends. False: the run ends, and m as ever */
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

/* safepoint.c: what is being interrupted? */
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

#endif
