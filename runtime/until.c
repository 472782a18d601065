/* SPDX-License-Identifier: MIT
 *
 * until.c: parks that may end without what was waited for: at a deadline, or because the coroutine was cancelled.
 *
 * Both are one more who must win wait_claim() to wake the G, with -errno in place of what was waited for.
 * They begin to compete in the park's commit, once the G is off its stack, and before the queue's lock is let go
 * of, so that a woken G cannot get past its queue while the commit works on it.
 *
 * Locks: a commit runs with the queue's lock held, if there is a queue; under it a timer heap's. Without a
 * queue a list of known.c instead, if the G can be cancelled. */
#include "rt.h"

/* No room in the heap: report that in place of the wait. */
static bool fail_wait(G *g, int rc)
{
    if (likely(rc == 0) || !wait_claim(g, get(&g->claim) >> 1))
        return false;
    g->woke = NULL;
    g->result = rc;
    return true;
}

/* Arm the timer, if any, and let g be cancelled: known.c. True: neither will wake it, it is not to wait.
 * (A sleeper that is not known may be gone as soon as its timer is armed: no lock keeps it.) */
static bool begin_until(M *m, G *g, int64_t deadline)
{
    bool known = g->flags & G_KNOWN;
    if (deadline != 0 && unlikely(fail_wait(g, timer_add(m, &g->timer, deadline))))
        return true;
    return unlikely(known) && known_parks(g);
}

/* A park with a deadline: the timer must be armed once the G is off its stack,
 * but before the inner commit lets go of the queue's lock: after that the G may
 * be running again, and use g->timer anew; or be gone. */
static bool commit_until(M *m, G *g, void *arg)
{
    Until u = *(Until *)arg; /* it lies in m, which goes on after the commit */
    uint64_t serial = get(&g->claim) >> 1;
    g->timer.seq = serial;
    bool failed = begin_until(m, g, u.deadline);
    if (u.commit != NULL && !u.commit(m, g, u.arg)) {
        if (!wait_claim(g, serial)) /* somebody else was faster and has made it ready */
            return !failed;
        g->woke = NULL;
        g->result = 0;
        return false;
    }
    return !failed;
}

/* The same without a queue whose lock would keep g from going on: known.c. */
static bool commit_until_known(M *m, G *g, void *arg)
{
    const Until *u = arg;
    Lock *l = known_lock(m, g);
    g->timer.seq = get(&g->claim) >> 1;
    bool failed = begin_until(m, g, u->deadline);
    lock_release(l);
    return !failed;
}

M *sched_park_until(M *m, enum Reason why, Commit *commit, void *arg, int64_t deadline)
{
    G *g = m->g;
    if (!wait_contested(g, deadline))
        return sched_park(m, why, commit, arg);
    if (unlikely(g->flags & G_FOREIGN))
        return foreign_park(m, commit, arg, deadline);
    bool alone = commit == NULL && g->flags & G_KNOWN;
    m->until = (Until){commit, arg, deadline};
    m = sched_park(m, why, alone ? commit_until_known : commit_until, &m->until);
    if (deadline != 0)
        timer_del(m, &g->timer);
    if (unlikely(alone))
        lock_release(known_lock(m, g)); /* the commit is done with us */
    return m;
}

M *sched_park_until_unlock(M *m, enum Reason why, Lock *l, int64_t deadline)
{
    return sched_park_until(m, why, sched_commit_unlock, l, deadline);
}
