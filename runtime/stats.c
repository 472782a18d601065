/* SPDX-License-Identifier: MIT
 *
 * stats.c: counters, summed over the Ps.
 *
 * Each counter is written by the M that holds its P and read here without
 * order: a sum is exact when nothing runs, and otherwise a mixture of moments.
 * Those that only grow never shrink from one reading to the next, since Ps are not
 * freed within a run. Who has ended is counted before who was spawned: then a coroutine
 * that comes and goes meanwhile counts as alive, not as minus one. Another thread's
 * stores may still be seen in another order, and a block for a copied stack is freed on
 * another P than it was taken on, so a difference is held at zero from below all the same.
 * sched.lock keeps the list of Ps and the idle Ms still meanwhile.
 */
#include "copystack.h"
#include "metrics.h"

#include <errno.h>

static uint64_t not_below_zero(uint64_t difference)
{
    return (int64_t)difference > 0 ? difference : 0;
}

static void stats_add_p(weft_stats_t *s, P *p)
{
    s->spawned += get(&p->spawned);
    s->switches += get(&p->switches);
    s->steals += get(&p->steals);
    s->timers_fired += get(&p->fired);
    s->preempt_flagged += get(&p->flagged);
    s->preempt_handed += get(&p->handed);
    s->preempt_moved += get(&p->moved);
    s->timers += get(&p->timers.count);
    s->runnable += runq_len(p);
    s->stack_copied_bytes += get(&p->copied_bytes);
    s->window_saves += get(&p->window_saves);
    s->window_loads += get(&p->window_loads);
}

/* S held. */
static void stats_add_threads(weft_stats_t *s)
{
    s->threads = sched.nm;
    s->threads_idle = sched.n_idle_m;
    s->threads_spinning = get(&sched.spinning);
    s->threads_held = sched.n_held;
    s->threads_blocked = sched.n_out;
    s->procs = get(&sched.procs);
    s->procs_idle = get(&sched.idle_p);
    if (s->procs_idle > s->procs) /* one that is too many comes back to the list first */
        s->procs_idle = s->procs;
}

static void stats_sum(weft_stats_t *s)
{
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    for (uint32_t i = 0; i < get_acq(&sched.np); i++)
        s->exited += get_acq(&sched.p[i]->exited); /* before those spawned: see above */
    uint64_t own = get(&sched.own);
    for (uint32_t i = 0; i < get_acq(&sched.np); i++)
        stats_add_p(s, sched.p[i]);
    s->spawned += get(&sched.foreign_spawned);
    s->netpoll_wakeups = get(&sched.polled_ready);
    s->runnable += get(&sched.runq_n) + get(&sched.hogs_n);
    s->retaken_declared = get(&sched.retaken_calls);
    s->retaken_undeclared = get(&sched.retaken_blocked);
    s->fd_waiters = get(&sched.waiters);
    stats_add_threads(s);
    event_latencies(s->latency);
    lock_release(&sched.lock);
    s->coroutines = not_below_zero(s->spawned - s->exited - own);
    s->stack_copied_bytes = not_below_zero(s->stack_copied_bytes);
}

void stats_take(weft_stats_t *s, bool may_wait)
{
    uint64_t slots = may_wait ? 0 : s->stacks_private;
    uint64_t bytes = may_wait ? 0 : s->stack_private_bytes;
    memset(s, 0, sizeof *s);
    stats_sum(s);
    s->windows = get(&windows.n);
    s->uptime = (uint64_t)(sys_now() - sched.began);
    if (may_wait) {
        stack_counts(&slots, &bytes);
        s->stack_copied_resident = block_resident();
    } else {
        (void)stack_try_counts(&slots, &bytes);
    }
    s->stacks_private = slots;
    s->stack_private_bytes = bytes;
}

int weft_stats(weft_stats_t *out)
{
    if (out == NULL)
        return -EINVAL;
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    int err = -EPERM;
    if (get_acq(&sched.active)) {
        stats_take(out, true);
        err = 0;
    }
    rt_leave(m);
    return err;
}

size_t weft_num_coroutines(void)
{
    weft_stats_t s = {0};
    M *m = rt_enter();
    if (m == NULL)
        return 0;
    if (get_acq(&sched.active))
        stats_sum(&s);
    rt_leave(m);
    return (size_t)s.coroutines;
}
