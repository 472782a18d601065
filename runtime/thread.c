/* SPDX-License-Identifier: MIT
 *
 * thread.c: Ms come and go.
 *
 * An M is made (maker.c) when a P has work and no M is idle, up to threads_max; failing
 * to make one is no error, the work waits for the Ms there are. An M that has
 * been idle for some seconds ends, and one whose coroutine has ended while pinned to it (hold.c): it goes
 * to sched.dead_ms, and who makes the next M, or ends the run, joins it and frees it. Lock: sched.lock.
 */
#include "annotate.h"

#include <unistd.h>

M *thread_new(void)
{
    M *m = rt_alloc_aligned(CACHE_LINE, sizeof *m);
    if (m == NULL)
        return NULL;
    m->altstack = rt_alloc_aligned(64, sys_altstack_size());
    if (m->altstack == NULL) {
        rt_free(m);
        return NULL;
    }
    m->g0.flags = G_SYSTEM;
    m->g0.m = m;
    m->g = &m->g0;
    m->preempt_off = 1; /* g0 is always inside the runtime */
    uint64_t seed = get(&sched.chaos);
    m->rng = (seed != 0 ? seed : sys_seed()) | 1;
    return m;
}

void thread_free(M *m)
{
    rt_free(m->g0.cases);
    rt_free(m->altstack);
    rt_free(m);
}

void thread_enter(M *m)
{
    arch_set_self(m);
    m->errno_addr = weft_errno();
    m->cxx = cxx_of_thread();
    m->tid = sys_tid();
    sys_altstack_set(m->altstack, sys_altstack_size());
    sys_timer_slack(true);
    note_thread(m);
}

void thread_leave(M *m)
{
    trace_leave(m);
    sys_altstack_clear();
    arch_set_self(NULL);
}

static void unlist(M *m)
{
    M **at = &sched.all_ms;
    while (*at != m)
        at = &(*at)->all;
    *at = m->all;
}

static void thread_main(void *arg)
{
    M *m = arg;
    thread_enter(m);
    sys_thread_name("weft");
    rt_alloc_prepare(m->room);
    preempt_thread_enter(m);
    sched_loop(m);
    preempt_thread_leave(m);
    thread_leave(m);

    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    unlist(m);
    m->link = sched.dead_ms;
    sched.dead_ms = m;
    bool last = --sched.nm == 1 && get(&sched.stopping);
    bool gone = m->gone;
    if (gone)
        sched.n_held--;
    lock_release(&sched.lock);
    if (gone)
        maker_want(); /* it may have been one too many while it was still there */
    if (last) {
        set_rel(&sched.park_m0, 1);
        sys_unpark(&sched.park_m0, 1);
    }
}

/* m0 is not of our making. If every thread stands still or is blocked in the kernel, there must be one more to wait for
 * timers and descriptors. */
static bool there_may_be_more(void)
{
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    bool may = sched.nm <= sched.threads_max || sched.nm - sched.n_held - sched.n_out == 0;
    lock_release(&sched.lock);
    return may;
}

static void say_once(_Atomic bool *said, const char *what)
{
    if (!atomic_exchange(said, true))
        warn("%s; going on with the %u threads there are", what, sched.nm);
}

int thread_start(void)
{
    static _Atomic bool warned;
    thread_reap();
    if (!there_may_be_more()) {
        say_once(&warned, "WEFT_MAXTHREADS is reached");
        return -EAGAIN;
    }
    M *m = thread_new();
    if (m == NULL)
        return -ENOMEM;
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    bool room = !get(&sched.stopping); /* m0 counts nm once it is set */
    if (room) {
        sched.nm++;
        sched.making = 1;
        m->id = ++sched.m_serial;
        m->rng += m->id * 2654435761u;
        m->all = sched.all_ms;
        sched.all_ms = m;
    }
    lock_release(&sched.lock);
    int saved_errno = *weft_errno();
    int rc = -EAGAIN;
    if (room && !rt_alloc_room(&m->room))
        rc = -ENOMEM;
    else if (room && (rc = sys_thread_create(&m->thread, thread_main, m)) != 0)
        rt_alloc_prepare(m->room);
    *weft_errno() = saved_errno;
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    sched.making = 0;
    if (room && rc != 0) {
        unlist(m);
        sched.nm--;
    }
    bool last = rc != 0 && sched.nm == 1 && get(&sched.stopping);
    lock_release(&sched.lock);
    if (rc == 0) {
        /* Only a pointer: the thread may have ended already, but nobody frees it before joinable. */
        set_rel(&m->joinable, true);
        return 0;
    }
    if (last)
        sys_unpark(&sched.park_m0, 1);
    if (room)
        say_once(&warned, "cannot create a thread");
    thread_free(m);
    return rc;
}

void thread_reap(void)
{
    for (;;) {
        lock_acquire(NULL, &sched.lock, RANK_SCHED);
        M **at = &sched.dead_ms, *m;
        while (*at != NULL && !get_acq(&(*at)->joinable)) /* pairs with thread_start() */
            at = &(*at)->link;
        if ((m = *at) != NULL)
            *at = m->link;
        lock_release(&sched.lock);
        if (m == NULL)
            return;
        sys_thread_join(&m->thread);
        thread_free(m);
    }
}
