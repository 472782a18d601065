/* SPDX-License-Identifier: MIT
 *
 * life.h: coroutines, Ms and Ps come and go; what a run begins and ends with. Part of rt.h.
 */
#ifndef WEFT_LIFE_H
#define WEFT_LIFE_H

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
/* What dumps read of Gs stays as it is from lock to unlock; nothing is allocated meanwhile */
void coro_lock_all(void);
bool coro_try_lock_all(void); /* false: that would take a wait */
void coro_unlock_all(void);
/* In between: from the beginning, or where the last call has ended, some hundred Gs per slab. True: there
 * are more. Who lives from the first call to the last is met once. The monitor's */
bool coro_foreach_some(bool first, uint32_t slabs, void (*fn)(G *, void *), void *arg);
void coro_start(void *m); /* arch_prepare's entry */
void coro_free_all(void); /* end of a run */
void coro_flush(P *p);    /* p's free Gs back to their slabs */

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

/* thread.c: Ms */
M *thread_new(void);    /* with g0, not yet running; NULL: no memory */
int thread_start(void); /* a new M, without a P; the maker only. -errno */
void thread_free(M *m);
void thread_reap(void);  /* join and free what has exited */
void thread_enter(M *m); /* the calling thread is m from now on */
void thread_leave(M *m);

/* maker.c */
int maker_start(void);
void maker_stop(void);
void maker_want(void); /* (signal) see that an M is in bed, to take over a P from a handler */

/* monitor.c: a thread without a P */
int monitor_start(void);
void monitor_stop(void);
void monitor_wake(void);    /* something runs again */
void monitor_suspect(void); /* a deadlock, but for other threads of the process: look again later */
void monitor_alarm(void);   /* (signal) there is something to do now */
M *monitor_holder(
    P *p); /* the monitor: the M that holds p, marked `poking`; NULL: p changes hands */
void monitor_let_go(M *m);

/* procs.c */
int procs_add(void);  /* one more, dead; nothing is allocated by malloc. -ENOMEM */
P *procs_spare(void); /* S held: one that may be lent, or NULL */
void procs_free_all(void);
void procs_put_back(M *m, P *p); /* p is nobody's any more, and no M can be had for it */
void procs_retire(M *m);         /* m->p is one too many: empty it; m->p is NULL then */

/* foreign.c */
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

/* Threads of the process that are not Ms: the monitor, the maker, and TSan's own; see sched.system_threads. */
#ifdef WEFT_TSAN
enum { SYSTEM_THREADS = 3 };
#else
enum { SYSTEM_THREADS = 2 };
#endif

/* signal.c, child.c */
int signal_init(void);    /* start of a run, census.c's thread is there. -errno */
void signal_fini(void);   /* end of a run: nobody listens */
void signal_forked(void); /* (signal) in the child: the handlers that were there before */
void child_fini(void);    /* end of a run, before stacks are freed */

/* life.c */
void life_main_ends(void); /* (m) main, inside the runtime: the run ends if it has returned */

/* group.c */
void group_leave(weft_wg_t *wg); /* G_GROUP: before the group's wg is counted down */

/* lot.c: wait on an address */
void lot_reset(void); /* end of a run: nobody waits */

/* chan.c, select.c */
/* End of a run, for a G that will not run again: take w out of its channel's
 * queue and drop its reference. Call it for each of g->cases[0..ncases), whatever
 * g's state (a select that was won but has not run yet still has its losers), and
 * for g->wait if g->reason is CHAN_RECV or CHAN_SEND. Does nothing for a Wait with
 * on == NULL. */
void chan_abandon(M *m, Wait *w);
int chan_parked(M *m); /* the end of a call that has waited for a channel: its result */

#endif
