/* SPDX-License-Identifier: MIT
 *
 * monitor.c: a thread without a P that looks after what busy Ms neglect.
 *
 * While any P runs it wakes every 10 ms. If nobody has looked at the poller or
 * the timers since, it takes the poller's role itself for up to 10 ms and hands
 * what becomes ready to the global queue. Afterwards, if a P is idle, it wakes
 * an M, which will find nothing else to do and be the poller from then on: an
 * event that is delivered by the M that runs its coroutine saves a thread
 * switch.
 *
 * While every P is idle it sleeps without a timeout: an idle program is not
 * woken. It stores monitor = 0 and then reads idle_p; an M that takes a P has
 * lowered idle_p and then reads monitor (idle_acquire). Both are sequentially
 * consistent: one of the two sees the other.
 */
#include "rt.h"

static const int64_t PERIOD = 10000000, SUSPECT_FIRST = 1000000000, SUSPECT_MOST = 16000000000;

static struct {
    SysThread thread;
    M *m;
    _Atomic bool suspect; /* (a) a deadlock, but for threads that may just be leaving: look again */
    _Atomic uint32_t stop; /* park word of the naps, 1: end */
} monitor;

static bool all_idle(void) /* >=: a P that is one too many may have come back to the list */
{
    return atomic_load(&sched.idle_p) >= get(&sched.procs) && get(&sched.spinning) == 0;
}

static void check_deadlock(void)
{
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    set(&monitor.suspect, idle_check_deadlock());
    lock_release(&sched.lock);
}

/* Until something runs. While a deadlock is suspected, look again now and then:
 * the thread that is in the way may end. */
static void sleep_long(void)
{
    for (int64_t nap = SUSPECT_FIRST;; nap = nap < SUSPECT_MOST ? 2 * nap : nap) {
        int64_t until = get(&monitor.suspect) ? sys_now() + nap : 0;
        int rc = 0;
        atomic_store(&sched.monitor, 0);
        while (atomic_load(&sched.monitor) == 0 && all_idle() && get(&monitor.stop) == 0 &&
               rc != -ETIMEDOUT)
            rc = sys_park(&sched.monitor, 0, until);
        atomic_store(&sched.monitor, 1);
        if (rc != -ETIMEDOUT)
            return;
        check_deadlock();
    }
}

void monitor_suspect(void)
{
    set(&monitor.suspect, true);
    monitor_wake(); /* to sleep with a timeout from now on */
}

void monitor_wake(void)
{
    if (atomic_exchange(&sched.monitor, 1) == 0)
        sys_unpark(&sched.monitor, 1);
}

static bool something_to_wait_for(void)
{
    return atomic_load(&sched.waiters) > 0 || idle_next_timer() != INT64_MAX;
}

static void take_the_poller(M *m)
{
    uint32_t nobody = 0;
    if (!atomic_compare_exchange_strong(&sched.poller, &nobody, 2))
        return;
    atomic_store(&sched.poll_until, INT64_MAX);
    int64_t next = idle_next_timer(), now = sys_now();
    int64_t timeout = next <= now ? 0 : next - now < PERIOD ? next - now : PERIOD;
    atomic_store(&sched.poll_until, now + timeout);
    G *list = netpoll_look(m, timeout);
    atomic_store(&sched.poll_until, 0);
    set(&sched.polled, sys_now());
    sched_ready_list(m, list); /* before the role is given back: see everyone_idle() */
    atomic_store(&sched.poller, 0);
    if (something_to_wait_for())
        idle_wake(m);
    else
        check_deadlock(); /* while the role was ours the last M to go to sleep could not tell */
}

static void monitor_main(void *arg)
{
    M *m = arg;
    thread_enter(m);
    sys_thread_name("weft-monitor");
    while (get_acq(&monitor.stop) == 0) {
        if (all_idle()) {
            sleep_long();
            continue;
        }
        sys_park(&monitor.stop, 0, sys_now() + PERIOD);
        if (get(&sched.poller) == 0 && something_to_wait_for() &&
            sys_now() - get(&sched.polled) >= PERIOD)
            take_the_poller(m);
    }
    thread_leave(m);
}

int monitor_start(void)
{
    set(&monitor.stop, 0);
    set(&monitor.suspect, false);
    atomic_store(&sched.monitor, 1);
    monitor.m = thread_new();
    if (monitor.m == NULL)
        return -ENOMEM;
    int rc = sys_thread_create(&monitor.thread, monitor_main, monitor.m);
    if (rc != 0)
        thread_free(monitor.m);
    return rc;
}

void monitor_stop(void)
{
    set_rel(&monitor.stop, 1);
    sys_unpark(&monitor.stop, 1);
    atomic_store(&sched.monitor, 1);
    sys_unpark(&sched.monitor, 1);
    sys_poller_wake();
    sys_thread_join(&monitor.thread);
    thread_free(monitor.m);
}
