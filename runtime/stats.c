/* SPDX-License-Identifier: MIT
 *
 * stats.c: counters, summed over the Ps.
 *
 * Each counter is written by the M that holds its P and read here without
 * order: a sum is exact when nothing runs, and otherwise a mixture of moments.
 * Since a coroutine may be counted as ended on one P before this has read the P
 * that counted it as spawned, a difference is held at zero from below.
 * sched.lock keeps the list of Ps and the idle Ms still meanwhile.
 */
#include "copystack.h"

#include <errno.h>

static uint64_t stats_alive(uint64_t spawned, uint64_t exited)
{
    return spawned > exited ? spawned - exited : 0;
}

static void stats_add_p(weft_stats_t *s, P *p)
{
    s->spawned += get(&p->spawned);
    s->exited += get(&p->exited);
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

static void stats_sum(M *m, weft_stats_t *s)
{
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    for (uint32_t i = 0; i < get_acq(&sched.np); i++)
        stats_add_p(s, sched.p[i]);
    s->spawned += get(&sched.foreign_spawned);
    s->netpoll_wakeups = get(&sched.polled_ready);
    s->runnable += get(&sched.runq_n) + get(&sched.hogs_n);
    s->threads = sched.nm;
    s->threads_idle = sched.n_idle_m;
    s->procs = get(&sched.procs);
    s->retaken_declared = get(&sched.retaken_calls);
    s->retaken_undeclared = get(&sched.retaken_blocked);
    event_latencies(s->latency);
    lock_release(&sched.lock);
    s->coroutines = stats_alive(s->spawned, s->exited + get(&sched.own));
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
        memset(out, 0, sizeof(*out));
        stats_sum(m, out);
        stack_counts(&out->stacks_private, &out->stack_private_bytes);
        out->windows = get(&windows.n);
        out->stack_copied_resident = block_resident();
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
        stats_sum(m, &s);
    rt_leave(m);
    return (size_t)s.coroutines;
}
