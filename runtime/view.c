/* SPDX-License-Identifier: MIT
 *
 * view.c: WEFT_DEBUG=top: what a program does, on a page that weft-top reads (page.h).
 *
 * Only the monitor writes it, so a program that is not watched pays nothing, and one that is pays no
 * more in its own threads. At each turn of the monitor (a millisecond or less while anything runs; once in
 * a refresh while all is idle) there are three things to do:
 *
 * - Sample: what runs on each P, at most once in SAMPLE. The time since the last sample goes to the
 *   name of the coroutine that is found, unless it is in the kernel. A declared call says so;
 *   whether another is blocked there is asked of the system once in a refresh, of Ps that have not
 *   switched since the last one.
 * - Count coroutines by state, wait reason and name, which takes a walk over all Gs. It goes in
 *   portions, one at each turn: the monitor must not neglect what it is there for, and arena.lock is held
 *   meanwhile. A round begins at a refresh, but not before WALK_REST times what the last one took
 *   has passed: a million coroutines took 0.15 s of the monitor's time, with other work on the machine.
 * - Refresh: publish, once a round that was begun is complete, or with the counts of the
 *   last one when it takes longer than a refresh.
 *
 * Locks. The monitor must never wait for a lock under which memory is allocated (monitor.c): arena.lock is
 * only tried, and what needs it comes a turn later. For the samples it is tried under sched.lock: an M that
 * has a P, and the G it runs, stay in memory as long as both are held. The reads are racy as in
 * a dump: a G may begin and end meanwhile, but is a G.
 *
 * The page (seq): the monitor stores an odd number, then the body after a release fence, then the next even
 * number with release. A reader that loads the same even number before and after has read no store of another
 * body. Readers are other processes, and may be anything.
 *
 * At the end of the run `ended` is set for who has the page open, and the file removed.
 */
#include "view.h"

#include "annotate.h"
#include "metrics.h"
#include "page.h"

#include <unistd.h>

static const int64_t SAMPLE = 900000, MSEC = 1000000, SAMPLE_MOST = 20000000, LOCK_AGAIN = 1000000;
enum { WALK_SLABS = 4 /* some thousand Gs */, WALK_REST = 20, ASK_MOST = 16 };

_Static_assert((int)METRIC_COUNTER == PAGE_COUNTER && (int)METRIC_GAUGE == PAGE_GAUGE &&
                   (int)METRIC_SECONDS == PAGE_SECONDS,
               "the page's kinds");
_Static_assert((int)WHY_MAX <= PAGE_WAITS, "room for every reason");

enum { STATE_RUNNING, STATE_SYSCALL, STATE_RUNNABLE, STATE_WAITING };
static const char *const state_name[PAGE_STATES] = {"running", "syscall", "runnable", "waiting"};

/* The monitor's, or, while it does not run, of who begins and ends the run. */
static struct {
    SysShare share;
    Page *page; /* NULL: off */
    PageBody next;
    weft_stats_t stats;
    int64_t due;     /* the next refresh */
    int64_t sampled; /* the last sample */
    bool ran;        /* it found something that ran */
    struct {
        uint32_t tick;
        int tid; /* of the thread; 0: nothing to ask about */
        bool asked, blocked;
    } seen[PAGE_PROCS];
    bool walking, midway;
    int64_t walk_from; /* not before */
    int64_t walk_cost;
    uint64_t state[PAGE_STATES], wait[WHY_MAX]; /* of this round */
} view;

/* ---- samples ------------------------------------------------------------------- */

/* S held, and arena.lock. The coroutine that p runs in its own code; NULL: none. */
static const G *sample_running(P *p, PageProc *x, M *m)
{
    uint32_t i = p->id;
    const G *g = *(G *volatile *)&m->g;
    view.seen[i].tid = 0;
    if (g->flags & G_SYSTEM) {
        x->runs = PAGE_SCHEDULING;
        return NULL;
    }
    x->coroutine = g->id;
    x->fn = names_function(g);
    view_name(x->name, name_of(g));
    if (get(&m->lease) == LEASE_CALL) {
        x->runs = PAGE_SYSCALL;
        return NULL;
    }
    view.seen[i].tid = m->tid;
    x->runs = view.seen[i].blocked ? PAGE_BLOCKED : PAGE_RUNNING;
    return view.seen[i].blocked ? NULL : g;
}

static bool sample_p(P *p, int64_t now, int64_t ns)
{
    PageProc *x = &view.next.proc[p->id];
    uint32_t tick = get(&p->tick);
    int64_t since = x->since;
    bool same = view.seen[p->id].tick == tick && x->runs != PAGE_IDLE;
    if (!same)
        view.seen[p->id].asked = view.seen[p->id].blocked = false;
    view.seen[p->id].tick = tick;
    *x = (PageProc){.id = p->id,
                    .lent = p->id >= get(&sched.procs),
                    .queue = runq_len(p),
                    .timers = get(&p->timers.count),
                    .switches = get(&p->switches),
                    .since = same ? since : now};
    M *m = get(&p->m);
    if (get(&p->state) != P_RUNNING || m == NULL)
        return false;
    const G *g = sample_running(p, x, m);
    if (g == NULL)
        return false;
    names_ran(g, ns);
    view.next.sampled += (uint64_t)ns;
    return true;
}

/* How much one sample stands for. The monitor may have slept while nothing ran. */
static int64_t sample_weight(int64_t now)
{
    int64_t ns = now - view.sampled, most = view.ran ? SAMPLE_MOST : MSEC;
    return ns < most ? ns : most;
}

static void sample(int64_t now)
{
    if (now - view.sampled < SAMPLE)
        return;
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    if (coro_try_lock_all()) {
        int64_t ns = sample_weight(now);
        uint32_t np = get_acq(&sched.np);
        view.sampled = now;
        view.ran = false;
        view.next.nprocs = np < PAGE_PROCS ? np : PAGE_PROCS;
        note_racy_reads(true);
        for (uint32_t i = 0; i < view.next.nprocs; i++)
            view.ran |= sample_p(sched.p[i], now, ns);
        note_racy_reads(false);
        coro_unlock_all();
    }
    lock_release(&sched.lock);
}

/* Ps that show the same coroutine as at the last refresh: is its thread blocked? */
static void ask_blocked(void)
{
    uint32_t asked = 0;
    for (uint32_t i = 0; i < view.next.nprocs && asked < ASK_MOST; i++) {
        if (view.seen[i].tid == 0)
            continue;
        if (view.seen[i].asked) {
            view.seen[i].blocked = sys_task_runs(view.seen[i].tid) == 0;
            asked++;
        }
        view.seen[i].asked = true;
    }
}

/* ---- counts ---------------------------------------------------------------------- */

static uint32_t state_of(uint8_t state, uint8_t reason)
{
    if (state == G_RUNNING)
        return reason == WHY_SYSCALL ? STATE_SYSCALL : STATE_RUNNING;
    if (state == G_RUNNABLE || reason == WHY_START) /* it is about to be queued */
        return STATE_RUNNABLE;
    return STATE_WAITING;
}

static void count_one(G *g, void *arg)
{
    uint8_t state = get(&g->state), reason = get(&g->reason);
    (void)arg;
    if (state == G_DEAD || g->flags & G_OWN)
        return;
    uint32_t s = state_of(state, reason);
    view.state[s]++;
    if (s == STATE_WAITING && reason < WHY_MAX)
        view.wait[reason]++;
    names_count(g);
}

static void walk_end(int64_t now)
{
    for (uint32_t i = 0; i < PAGE_STATES; i++)
        view.next.state[i].n = view.state[i];
    for (uint32_t i = 0; i < WHY_MAX; i++)
        view.next.wait[i].n = view.wait[i];
    memset(view.state, 0, sizeof view.state);
    memset(view.wait, 0, sizeof view.wait);
    names_round();
    view.next.counted = now;
    view.next.count_ns = view.walk_cost;
    view.walk_from = now + WALK_REST * view.walk_cost;
    view.walk_cost = 0;
    view.walking = false;
}

/* One portion. False: the lock is busy. */
static bool walk(int64_t now)
{
    if (!coro_try_lock_all())
        return false;
    note_racy_reads(true);
    bool more = coro_foreach_some(!view.midway, WALK_SLABS, count_one, NULL);
    note_racy_reads(false);
    coro_unlock_all();
    int64_t end = sys_now();
    view.walk_cost += end - now;
    view.midway = more;
    if (!more)
        walk_end(end);
    return true;
}

/* ---- the page ---------------------------------------------------------------------- */

static void publish(int64_t now)
{
    PageBody *b = &view.next;
    stats_take(&view.stats, false);
    for (uint32_t i = 0; i < b->ncounters; i++)
        b->counter[i].value = metric_of(&view.stats, &metrics[i]);
    b->refreshed = now;
    b->nnames = names_list(b->name, PAGE_NAMES);
    uint32_t seq = get(&view.page->seq);
    set(&view.page->seq, seq + 1);
    atomic_thread_fence(memory_order_release); /* who sees the body sees that it is being written */
    memcpy(&view.page->body, b, sizeof *b);
    set_rel(&view.page->seq, seq + 2); /* pairs with a reader's first look */
}

int64_t view_turn(int64_t now)
{
    if (view.page == NULL)
        return INT64_MAX;
    bool busy = false;
    sample(now);
    if (!view.walking && now >= view.due && now >= view.walk_from)
        view.walking = true;
    if (view.walking)
        busy = !walk(now);
    if (now >= view.due && (!view.walking || now >= view.due + sched.top)) {
        publish(now);
        ask_blocked();
        view.due = now + sched.top;
    }
    return !view.walking ? view.due : busy ? now + LOCK_AGAIN : now;
}

static void name_all(PageBody *b)
{
    b->ncounters = metrics_n < PAGE_COUNTERS ? metrics_n : PAGE_COUNTERS;
    for (uint32_t i = 0; i < b->ncounters; i++) {
        view_name(b->counter[i].name, metrics[i].name);
        b->counter[i].kind = metrics[i].kind;
    }
    b->nstates = PAGE_STATES;
    for (uint32_t i = 0; i < PAGE_STATES; i++)
        view_name(b->state[i].name, state_name[i]);
    b->nwaits = WHY_MAX;
    for (uint32_t i = 0; i < WHY_MAX; i++)
        if (reason_name[i] != NULL)
            view_name(b->wait[i].name, reason_name[i]);
}

void view_start(void)
{
    if (sched.top == 0)
        return;
    memset(&view, 0, sizeof view);
    int rc = sys_share_make(&view.share, sizeof(Page));
    if (rc != 0) {
        warn("WEFT_DEBUG=top: no page: %s", strerror(-rc));
        return;
    }
    Page *page = view.share.mem;
    names_reset();
    name_all(&view.next);
    view.next.began = sched.began;
    view.next.refresh = sched.top;
    view.due = sys_now();
    page->version = PAGE_VERSION;
    page->size = sizeof *page;
    page->pid = (uint64_t)getpid();
    page->started = sys_process_began();
    view.page = page;
    sample(view.due);
    publish(view.due);
    memcpy(page->magic, PAGE_MAGIC, sizeof page->magic); /* a tool finds all of it, or no page */
}

void view_stop(void)
{
    if (view.page == NULL)
        return;
    view.next.ended = 1;
    publish(sys_now());
    view.page = NULL;
    sys_share_end(&view.share);
}
