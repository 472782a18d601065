/* SPDX-License-Identifier: MIT
 *
 * where.c: what coroutines are doing that run while a dump is taken.
 *
 * A parked stack can be read. One that runs cannot, so its own thread is asked: the dump gives its M a Place
 * and nudges it; the tick's handler walks the interrupted stack by .eh_frame (walk.c: no lock, no
 * allocation) and notes the addresses there. A thread that is blocked in the kernel is not interrupted
 * (its call would fail with EINTR): /proc has its stack pointer, and a stack that nobody runs on can be read. So
 * it is with coroutines that stand still with their threads (hold.c: M.at), which need nothing from here.
 *
 * All at once, and no longer than PATIENCE: a thread that computes answers after some 100 us, where there
 * is no perf within a jiffy, or when the kernel lets it run. Who has not answered is shown without a backtrace, as
 * all are with WEFT_DEBUG=preempt=off and under TSan, where nothing ticks.
 *
 * Who writes what. The Ms are found and marked (M.poking) under sched.lock, as the monitor does it, so none ends
 * meanwhile; M.where is the dump's to write until it lets go of the M. Place.state:
 *   FREE -> ASKED      the dump (release, by M.where): g, m, p are set
 *   ASKED -> WRITING   the handler, by CAS; frames are its own from here
 *   WRITING -> DONE    the handler (release; pairs with the dump's acquire)
 *   ASKED -> FREE      the dump, by CAS, when it has waited long enough
 * A handler that has won always gets to DONE, as nothing in it waits; so the dump waits for that without a bound.
 *
 * A dump may be taken by who holds sched.lock and fails: it is only tried, for a millisecond. Without it nothing
 * is known of what runs but that it does.
 *
 * One dump at a time: the report stack's owner. Lock: sched.lock. */
#include "where.h"

#include "annotate.h"
#include "safepoint.h"

enum { PLACES = 128, LOOK_NS = 200000 };
static const int64_t PATIENCE = 30000000, LOCK_NS = 1000000;

enum { FREE, ASKED, WRITING, DONE };

static Place place[PLACES];
static M *asked[PLACES]; /* marked */
static uint32_t nplaces;

/* ---- the other side ------------------------------------------------------------- */

static bool step(Walk *w)
{
    Object room;
    Fde f;
    uintptr_t pc = w->call ? w->pc - 1 : w->pc;
    const Object *o = object_find(pc, &room);
    return o != NULL && fde_find(o, pc, &f) && walk_step(w, o, &f);
}

void where_answer(M *m, void *uc)
{
    Place *at = get_acq(&m->where);
    uint32_t want = ASKED;
    Walk w;
    void *lo, *hi;
    if (at == NULL || !atomic_compare_exchange_strong(&at->state, &want, WRITING))
        return;
    G *g = m->g;
    if (g == at->g && g->id == at->id && g->slot != NULL) {
        stack_bounds(g->slot, &lo, &hi);
        walk_start(&w, uc, lo, hi);
        bool more = w.lo < w.hi; /* else it is about to leave this stack, or has just come there */
        while (more && at->n < ENTRY_FRAMES) {
            at->frames[at->n++] = w.pc;
            more = step(&w);
        }
    }
    set_rel(&at->state, DONE);
}

/* ---- the dump's ------------------------------------------------------------------- */

static bool lock_sched(void)
{
    int64_t until = sys_now() + LOCK_NS;
    while (!lock_try(&sched.lock, RANK_SCHED)) {
        if (sys_now() >= until)
            return false;
        sys_yield();
    }
    return true;
}

/* S held. Ms that run a coroutine, or are blocked in the kernel with one. */
static void note_all(const M *self)
{
    for (M *m = sched.all_ms; m != NULL && nplaces < PLACES; m = m->all) {
        G *g = m->g;
        if (m == self || m->foreign || m->leaving || m->holds || m->in_bed || g == NULL ||
            g == &m->g0)
            continue;
        P *p = m->p;
        Place *at = &place[nplaces];
        at->g = g;
        at->id = g->id;
        at->tid = m->tid;
        at->m = m->id;
        at->p = p != NULL ? (int)p->id : -1;
        at->out_since = get(&m->lease) == LEASE_TAKEN ? m->out_since : 0;
        at->kernel = false;
        at->n = 0;
        set(&at->state, FREE);
        atomic_fetch_add(&m->poking, 1);
        asked[nplaces++] = m;
    }
}

/* Blocked in the kernel. Only its stack pointer is known: the walk ends at a frame that is found by another
 * register. */
static bool walk_blocked(void *arg, G *g)
{
    Place *at = arg;
    ArchContext ctx = {0};
    void *lo, *hi;
    uintptr_t again;
    if (g->slot == NULL || (ctx.pc = sys_task_pc(at->tid, &ctx.sp)) == 0)
        return true;
    at->kernel = true;
    stack_bounds(g->slot, &lo, &hi);
    if (ctx.sp <= (uintptr_t)lo || ctx.sp > (uintptr_t)hi)
        return true;
    at->n = unwind_walk(&ctx, NULL, false, lo, hi, at->frames, NULL, ENTRY_FRAMES);
    atomic_thread_fence(memory_order_acquire); /* the walk's reads come before this look */
    if (sys_task_pc(at->tid, &again) != ctx.pc || again != ctx.sp)
        at->n = 0;
    return true;
}

static void ask(M *m, Place *at)
{
    if (sys_task_runs(at->tid) == 0) {
        report_guarded(walk_blocked, at, at->g);
        return;
    }
    if (sched.slice == 0)
        return;
    set(&at->state, ASKED);
    set_rel(&m->where, at); /* pairs with where_answer() */
    (void)sys_tick_nudge(&m->tick);
}

/* It may still answer: it has not parked meanwhile, or blocked in the kernel. */
static bool may_answer(const M *m, const Place *at)
{
    uint32_t state = get_acq(&at->state); /* pairs with where_answer() */
    return state == WRITING ||
           (state == ASKED && *(G *const volatile *)&m->g == at->g && sys_task_runs(at->tid) != 0);
}

static bool all_answered(void)
{
    for (uint32_t i = 0; i < nplaces; i++)
        if (may_answer(asked[i], &place[i]))
            return false;
    return true;
}

static void withdraw(M *m, Place *at)
{
    uint32_t was = ASKED;
    if (atomic_compare_exchange_strong(&at->state, &was, FREE)) {
        if (sys_task_runs(at->tid) == 0 && *(G *const volatile *)&m->g == at->g)
            report_guarded(walk_blocked, at, at->g);
    } else {
        while (get_acq(&at->state) == WRITING)
            sys_sleep_until(sys_now() + LOOK_NS);
    }
    set(&m->where, NULL);
    monitor_let_go(m);
}

void where_ask(const M *self)
{
    nplaces = 0;
    if (!get_acq(&sched.active) || !lock_sched())
        return;
    note_racy_reads(true);
    note_all(self);
    lock_release(&sched.lock);
    for (uint32_t i = 0; i < nplaces; i++)
        ask(asked[i], &place[i]);
    int64_t until = sys_now() + PATIENCE;
    while (!all_answered() && sys_now() < until)
        sys_sleep_until(sys_now() + LOOK_NS);
    for (uint32_t i = 0; i < nplaces; i++)
        withdraw(asked[i], &place[i]);
    note_racy_reads(false);
}

const Place *where_of(const G *g)
{
    for (uint32_t i = 0; i < nplaces; i++)
        if (place[i].g == g && place[i].id == g->id)
            return &place[i];
    return NULL;
}
