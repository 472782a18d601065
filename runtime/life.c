/* SPDX-License-Identifier: MIT
 *
 * life.c: a run begins and ends.
 *
 * weft_run() makes the calling thread m0, the first M, and main the first
 * coroutine. Main may come to run on any M; m0 serves like the others. When
 * main returns, the M it is on sets `stopping` and every P's attention; each M
 * leaves at its next switch, or when the monitor pokes it (preempt.c), gives its P
 * to a thread that holds a coroutine, or back, and ends; m0 leaves sched_loop() and
 * waits for the last of them. From then on m0 is alone with whatever foreign threads
 * do, and takes down what was built, in reverse.
 *
 * What is left of the coroutines: those parked on channels are taken out of the
 * channels' queues, since channels outlive a run; the destructors of their keys are called; wait tables,
 * timer heaps and descriptors forget theirs; then stacks and Gs are freed.
 *
 * fork: the child has only the thread that called it. If a run is active it
 * marks the runtime dead there (forked), and forgets its own M, so that every
 * entry fails with -ENOSYS. Its signals are as the thread of weft_run() found them: the mask of one that
 * weft made would be inherited by what the child executes, which could not even be ended by SIGTERM.
 */
#include "annotate.h"
#include "census.h"
#include "copystack.h"
#include "view.h"

#include <stdlib.h>

static const int64_t SLICE = 10000000; /* as Go: a hundred switches a second cost nothing */

static _Atomic uint32_t running; /* 1: somebody is between the two ends of weft_run() */

static sigset_t mask_before; /* of the thread in weft_run() */

typedef struct {
    int (*entry)(void *);
    void *arg;
    int result;
    bool returned;
} Main;

static void stop(int result)
{
    sched.result = result;
    atomic_store(&sched.stopping, true);
    idle_stop_all();
    monitor_alarm();
}

static Main main_call; /* of the run; (m) of main */

static void run_main(void *arg)
{
    (void)arg;
    main_call.result = main_call.entry(main_call.arg);
    main_call.returned = true;
}

void life_main_ends(void)
{
    if (main_call.returned) /* else it has left by weft_exit() */
        stop(main_call.result);
}

/* A fork that is interrupted begins anew: under a storm of ticks it would never end. */
static void before_fork(void)
{
    M *m = arch_self();
    if (m != NULL && m->ticking)
        m->was_blocked = sys_tick_block(true);
}

static void after_fork(void)
{
    M *m = arch_self();
    if (m != NULL && m->ticking && !m->was_blocked)
        sys_tick_block(false);
}

static void in_forked_child(void)
{
    after_fork();
    if (get(&running) == 0)
        return;
    M *m = arch_self();
    if (m != NULL)
        preempt_forked(m);
    set(&sched.forked, true);
    signal_forked();
    if (m != NULL && !m->foreign && m != sched.m0)
        pthread_sigmask(SIG_SETMASK, &mask_before, NULL);
    else if (m != NULL && m->ticking && m->tick.was_blocked)
        sys_tick_block(true);
    arch_set_self(NULL);
}

static void once(void)
{
    static _Atomic bool done;
    if (atomic_exchange(&done, true))
        return;
    sys_atfork(before_fork, after_fork, in_forked_child);
    dump_init();
    atomic_store(&sched.ids, 2);
}

static int configure(const weft_config_t *cfg, uint32_t *procs)
{
    static const weft_config_t none;
    if (cfg == NULL)
        cfg = &none;
    if (cfg->procs < 0 || cfg->procs > P_MAX || cfg->threads_max < 0 ||
        (cfg->flags & ~(unsigned)WEFT_SIGQUIT) != 0 || cfg->slice < 0 || cfg->signal < 0 ||
        cfg->stack < 0 || cfg->stack > WEFT_STACK_COPIED)
        return -EINVAL;
    debug_init();
    sched.sigquit |= (cfg->flags & WEFT_SIGQUIT) != 0;
    int64_t n = cfg->procs, max = cfg->threads_max, signo = cfg->signal;
    if (n == 0)
        n = debug_env_int("WEFT_PROCS", 1, P_MAX);
    if (n <= 0)
        n = sys_ncpu();
    if (max == 0)
        max = debug_env_int("WEFT_MAXTHREADS", 1, 1000000);
    if (signo == 0 && (signo = debug_env_int("WEFT_SIGNAL", 1, SIGRTMAX)) < 0)
        signo = 0;
    sched.signo = (int)signo;
    if (sched.slice < 0) /* WEFT_DEBUG says nothing */
        sched.slice = cfg->slice != 0 ? cfg->slice : SLICE;
#ifdef WEFT_TSAN
    sched.slice = 0; /* its runtime delivers signals late, and at places of its own */
#endif
    *procs = n < P_MAX ? (uint32_t)n : P_MAX;
    sched.threads_max = max > 0 ? (uint32_t)max : 10000;
    sched.stack_max = cfg->stack_max;
    sched.stack = cfg->stack != 0 && !sched.threads ? cfg->stack : WEFT_STACK_PRIVATE;
    sched.stack_class = sched.stack == WEFT_STACK_COPIED ? STACK_WINDOW : 0;
    return 0;
}

static void reset_sched(M *m0)
{
    atomic_store(&sched.stopping, false);
    atomic_store(&sched.spinning, 0);
    atomic_store(&sched.idle_p, 0);
    atomic_store(&sched.need_spin, 0);
    atomic_store(&sched.poller, 0);
    atomic_store(&sched.poll_until, 0);
    atomic_store(&sched.waiters, 0);
    atomic_store(&sched.runq_n, 0);
    atomic_store(&sched.foreign_spawned, 0);
    atomic_store(&sched.own, 0);
    atomic_store(&sched.park_m0, 0);
    sched.runq = sched.back = (GList){NULL, NULL};
    hogs_reset();
    sched.idle_ps = NULL;
    sched.idle_ms = NULL;
    sched.n_idle_m = 0;
    sched.dead_ms = NULL;
    sched.nm = 1;
    sched.making = sched.n_held = sched.n_out = 0;
    set(&sched.retaken_calls, 0);
    set(&sched.retaken_blocked, 0);
    atomic_store(&sched.noting, sched.latencies ? NOTE_LATENCY : 0);
    syscall_reset();
    sched.m0 = m0;
    sched.began = sys_now();
}

/* m0, all Ps but the first idle, solo mode if it can be. */
static int assemble(M *m0, uint32_t procs)
{
    bool can_solo = sys_membarrier_init();
    reset_sched(m0);
    window_init(procs, can_solo);
    for (uint32_t i = 0; i <= procs; i++) /* the last one to be lent: monitor.c */
        if (procs_add() != 0)
            return -ENOMEM;
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    atomic_store(&sched.procs, procs);
    m0->all = sched.all_ms; /* foreign Ms may be there already */
    sched.all_ms = m0;
    for (uint32_t i = procs; i-- > 1;)
        idle_put_p(sched.p[i]);
    for (uint32_t i = 0; i < procs; i++)
        sched.p[i]->spare = false;
    set(&sched.solo, can_solo && procs == 1 && get(&sched.foreign) == 0);
    set(&sched.p[0]->state, P_RUNNING);
    lock_release(&sched.lock);
    return 0;
}

static void disassemble(M *m0)
{
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    set(&sched.solo, false);
    M **at = &sched.all_ms;
    while (*at != NULL && *at != m0)
        at = &(*at)->all;
    if (*at != NULL)
        *at = m0->all;
    lock_release(&sched.lock);
    procs_free_all();
}

static void wait_for_others(void)
{
    for (;;) {
        lock_acquire(NULL, &sched.lock, RANK_SCHED);
        bool alone = sched.nm == 1;
        lock_release(&sched.lock);
        if (alone)
            break;
        sys_park(&sched.park_m0, 0, sys_now() + 100000000);
    }
    preempt_say(); /* before anything is freed: malloc's lock may be one of those left behind */
    for (;;) {
        thread_reap();
        lock_acquire(NULL, &sched.lock, RANK_SCHED);
        bool none = sched.dead_ms == NULL;
        lock_release(&sched.lock);
        if (none)
            return;
        sys_yield(); /* its creator is just about to set joinable */
    }
}

static void abandon(G *g, void *arg)
{
    M *m = arg;
    uint8_t why = get(&g->reason);
    if (why == WHY_CHAN_RECV || why == WHY_CHAN_SEND || g->flags & G_ON_CHAN)
        chan_abandon(m, &g->wait);
    /* Also of a select that was won but has not run since: its losers. */
    for (uint32_t i = 0; i < g->ncases; i++)
        chan_abandon(m, &g->cases[i]);
    keys_end(g);
    if (g->x != NULL)
        ctx_unbind(m, &g->x->ctx);
}

/* Main, to its end. */
static int run(M *m0)
{
    G *g;
    pthread_sigmask(SIG_SETMASK, NULL, &mask_before);
    preempt_thread_enter(m0);
    idle_acquire(m0, sched.p[0]);
    weft_attr_t attr = {.stack = WEFT_STACK_PRIVATE}; /* everybody has pointers to its locals */
    int rc = coro_spawn(m0, &attr, run_main, NULL, (void *)(uintptr_t)main_call.entry, &g);
    if (rc == 0 && extra_of(g) == NULL)
        rc = -ENOMEM;
    if (rc != 0) {
        stop(rc);
    } else {
        g->id = 1;
        g->flags = G_MAIN | (g->flags & G_NOTED);
        known_add(m0, g);
        if (g->flags & G_NOTED)
            event_readied(m0, g);
        event_ready(g);
        set(&g->state, G_RUNNABLE);
        runq_put(m0->p, g);
    }
    set(&sched.quick, !get(&sched.deadlock));
    atomic_store(&sched.active, true);
    sched_loop(m0);
    preempt_thread_leave(m0);
    if (m0->abandoned) /* in a handler: it will not put the mask back itself */
        pthread_sigmask(SIG_SETMASK, &mask_before, NULL);
    wait_for_others();
    set(&sched.quick, false);
    atomic_store(&sched.active, false);
    return rc;
}

static int run_as_m0(M *m0, uint32_t procs)
{
    int rc;
    sched.valgrind = note_valgrind();
    if ((rc = stack_init(sched.stack_max)) != 0)
        return rc;
    if ((rc = netpoll_init()) != 0)
        goto no_poller;
    if ((rc = assemble(m0, procs)) != 0)
        goto no_procs;
    if ((rc = sys_fault_install(stack_on_fault)) != 0)
        goto no_procs;
    if ((rc = preempt_start()) != 0)
        goto no_preempt;
    if ((rc = maker_start()) != 0)
        goto no_maker;
    if ((rc = census_start()) != 0)
        goto no_census;
    schedtrace_start();
    view_start();
    if ((rc = signal_init()) != 0 || (rc = monitor_start()) != 0)
        goto no_monitor;
    trace_begin_run();

    rc = run(m0);

    monitor_stop();
    census_stop();
    census_leaks();
    foreign_cancel_all();
    foreign_wait_all();
    trace_end_run();
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    solo_end(); /* from here on foreign threads may use channels again: by word */
    lock_release(&sched.lock);
    coro_foreach_alone(abandon, m0);
    lot_reset();
    known_reset();
    callback_reset();
    child_fini();
no_monitor:
    signal_fini(); /* a SIGQUIT until now has told nobody */
    view_stop();
    census_stop();
no_census:
    maker_stop();
no_maker:
    preempt_end();
no_preempt:
    sys_fault_remove();
no_procs:
    netpoll_fini();
    for (uint32_t i = 0; i < get_acq(&sched.np); i++)
        timer_free(m0, &sched.p[i]->timers);
    /* A foreign thread that stops a timer does not look at `active`: it found the
     * heap before it was emptied, or finds none. */
    foreign_wait_all();
    spill_fini();
    coro_free_all();
    for (uint32_t i = 0; i < get_acq(&sched.np); i++)
        block_flush(sched.p[i]);
    window_fini();
    stack_fini();
    disassemble(m0);
    return rc == 0 ? sched.result : rc;
no_poller:
    stack_fini();
    return rc;
}

int weft_run_with(const weft_config_t *cfg, int (*entry)(void *), void *arg)
{
    uint32_t procs, idle = 0;
    if (get(&sched.forked))
        return -ENOSYS;
    if (entry == NULL)
        return -EINVAL;
    if (!atomic_compare_exchange_strong(&running, &idle, 1))
        return -EBUSY;
    once();
    int rc = configure(cfg, &procs);
    if (rc != 0)
        goto out;
    M *self = arch_self();
    if (self != NULL)
        foreign_detach(self);
    M *m0 = thread_new();
    if (m0 == NULL) {
        rc = -ENOMEM;
        goto out;
    }
    main_call = (Main){.entry = entry, .arg = arg};
    cxx_init();
    thread_enter(m0);
    rc = run_as_m0(m0, procs);
    thread_leave(m0);
    sys_timer_slack(false);
    thread_free(m0);
out:
    atomic_store(&running, 0);
    return rc;
}

int weft_run(int (*entry)(void *), void *arg)
{
    return weft_run_with(NULL, entry, arg);
}

int64_t weft_now(void)
{
    return sys_now();
}

int *weft_errno(void)
{
    return &errno;
}
