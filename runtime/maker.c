/* SPDX-License-Identifier: MIT
 *
 * maker.c: a thread that makes threads; the only one that does.
 *
 * Making a thread allocates. A P that a signal handler gives up (hold.c) needs an M in bed, and a
 * handler cannot allocate. Nor may anyone who has a P or a lock in hand: a coroutine that
 * stands still inside malloc may hold its lock, and whoever waits for that with a P
 * takes the P out of use, with a descriptor's lock stops the monitor, which would lend
 * that coroutine a P. So this thread does, on demand: it holds nothing, and may be blocked for
 * as long as it takes. The new M finds an idle P, if there is one, by itself (idle.c).
 *
 * `word` is its park word and what it is to do. WANT is stored by anyone, in handlers too; the
 * maker puts it back to 0 before it looks for an M in bed: a WANT that comes later is kept.
 */
#include "rt.h"

enum { WANT = 1, STOP = 2 };

static struct {
    SysThread thread;
    _Atomic uint32_t word;
} maker;

void maker_want(void)
{
    uint32_t nothing = 0;
    if (atomic_compare_exchange_strong(&maker.word, &nothing, WANT))
        sys_unpark(&maker.word, 1);
}

/* Too few are in bed, and not on their way there. */
static bool one_is_missing(void)
{
    enum { AWAKE = 2 }; /* without a P: one in the poller, one that comes or goes */
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    uint32_t most = get(&sched.procs) + AWAKE;
    for (uint32_t i = get(&sched.procs); i < get_acq(&sched.np); i++)
        most += get(&sched.p[i]->state) == P_RUNNING; /* lent */
    uint32_t spare = sched.n_out > 0 ? 2 : 1; /* the next P may be taken while one is being made */
    bool missing = sched.n_idle_m < spare && !get(&sched.stopping) &&
                   sched.nm - sched.n_held - sched.n_out < most;
    lock_release(&sched.lock);
    return missing;
}

static void maker_main(void *arg)
{
    sys_thread_name("weft-maker");
    rt_alloc_prepare(arg);
    for (;;) {
        uint32_t what = WANT;
        if (atomic_compare_exchange_strong(&maker.word, &what, 0)) {
            if (one_is_missing() && thread_start() == 0)
                monitor_alarm(); /* who waits for it interrupts the hogs again */
        } else if (what == STOP) {
            return;
        } else {
            sys_park(&maker.word, 0, 0);
        }
    }
}

int maker_start(void)
{
    void *room;
    set(&maker.word, 0);
    if (!rt_alloc_room(&room))
        return -ENOMEM;
    int rc = sys_thread_create(&maker.thread, maker_main, room);
    if (rc != 0)
        rt_alloc_prepare(room);
    return rc;
}

void maker_stop(void)
{
    atomic_store(&maker.word, STOP);
    sys_unpark(&maker.word, 1);
    sys_thread_join(&maker.thread);
}
