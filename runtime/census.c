/* SPDX-License-Identifier: MIT
 *
 * census.c: a look at what waits: WEFT_DEBUG=deadlock, stuck and leaks; and the dump that SIGQUIT asks for.
 *
 *   deadlock     while somebody waits for a lock: cycles (cycles.c), twice a second
 *   stuck=MS     coroutines parked for longer than MS, each wait once
 *   leaks        when main has returned: coroutines that had not ended
 *   sigquit      a dump for each SIGQUIT (WEFT_SIGQUIT in the configuration is the same)
 *
 * Stuck and leaks say one line for each spawn site and wait reason, for grep and sort:
 *
 *   weft: stuck: 3 coroutines [chan receive], oldest 12.345 s (coroutine 17 "conn"), created at serve+0x1f (server)
 *   weft: leak: 1 coroutine [sleep], oldest 0.250 s (coroutine 9), created at poll+0x2e (server)
 *
 * Waits for time or descriptors may be long for good reasons: the reason is in the line, and what to
 * leave out is the reader's choice.
 *
 * All but leaks are a thread's, which is there only if one of them was asked for. Not the monitor's:
 * a report takes the loader's lock and malloc's, which a coroutine that stands still may hold until
 * the monitor lends it a P. This thread holds nothing that others want and may be blocked for as
 * long as it takes. It counts as one of the system's where a deadlock is looked for (idle.c).
 *
 * An idle program is not woken by it (stuck apart): without waits for locks it sleeps without a
 * timeout. It stores census.idle and then reads cycles_waiting(); who notes a wait counts it and then
 * reads census.idle (census_wake). Both are sequentially consistent: one sees the other.
 *
 * SIGQUIT. The handler (signal.c) sets census.asked, then the park word; the thread clears the word and then reads
 * asked. So it sees each request, or is woken by it; several close together are one dump. The thread does not
 * block the signal: there is somebody to take it also where the program's own threads do.
 *
 * How long. A coroutine's time of parking is its P's coarse clock, which may be seconds behind where little
 * is switched. For stuck and leaks each switch sets it (ATT_CLOCK): it is right but for the time that
 * the coroutine ran before it parked.
 *
 * Each wait once: those that were told in the last round are kept in a set, by id and time of parking;
 * who is still there in this round is not told again. The coarse time of parking may be the same for
 * two waits of a coroutine in a row: these count as one.
 *
 * Lock: coro_foreach()'s, under which groups are counted: no allocation, no output. */
#include "census.h"

#include "annotate.h"
#include "cycles.h"
#include "report.h"

#include <unistd.h>

static const int64_t PATIENCE = 1000000000, ROUND = 500000000, SEC = 1000000000, MSEC = 1000000;

static struct {
    SysThread thread;
    bool runs;
    _Atomic bool stop;
    _Atomic bool idle;     /* it sleeps until somebody waits for a lock */
    _Atomic uint32_t word; /* its park word; 1: look */
    _Atomic bool asked;    /* for a dump, by a signal */
} census;

/* ---- coroutines by spawn site and wait reason -------------------------------------------------- */

typedef struct {
    uintptr_t spawn_pc;
    uint8_t state, reason;
    uint64_t n;
    uint64_t id; /* of the oldest */
    int64_t age;
    char name[NAME_MAX_LEN + 1];
} Group;

enum { GROUPS = 512 };

/* One at a time: the thread's, and at the end of the run, without it, m0's. */
static struct {
    const char *what;
    uint32_t n;
    uint64_t left_out; /* coroutines of groups that there is no room for */
    Group group[GROUPS];
} found;

static Group *group_of(const G *g)
{
    uint8_t state = get(&g->state), reason = get(&g->reason);
    for (uint32_t i = 0; i < found.n; i++) {
        Group *x = &found.group[i];
        if (x->spawn_pc == (uintptr_t)g->spawn_pc && x->state == state && x->reason == reason)
            return x;
    }
    if (found.n == GROUPS)
        return NULL;
    Group *x = &found.group[found.n++];
    *x = (Group){.spawn_pc = (uintptr_t)g->spawn_pc, .state = state, .reason = reason, .age = -1};
    return x;
}

static void group_add(const G *g, int64_t now)
{
    Group *x = group_of(g);
    if (x == NULL) {
        found.left_out++;
        return;
    }
    int64_t age = x->state == G_WAITING ? now - g->since : 0;
    x->n++;
    if (age <= x->age)
        return;
    x->age = age;
    x->id = g->id;
    report_copy_name(x->name, g);
}

static void print_seconds(Out *o, int64_t ns)
{
    int64_t ms = ns / MSEC % 1000;
    out_dec(o, (uint64_t)(ns / SEC));
    out_str(o, ms < 10 ? ".00" : ms < 100 ? ".0" : ".");
    out_dec(o, (uint64_t)ms);
    out_str(o, " s");
}

static void print_group(Out *o, const Group *x)
{
    out_str(o, "weft: ");
    out_str(o, found.what);
    out_str(o, ": ");
    out_dec(o, x->n);
    out_str(o, x->n == 1 ? " coroutine [" : " coroutines [");
    out_str(o, report_state(x->state, x->reason));
    out_str(o, x->state == G_WAITING ? "], oldest " : "], first (");
    if (x->state == G_WAITING) {
        print_seconds(o, x->age);
        out_str(o, " (");
    }
    report_who(o, x->id, x->name);
    out_str(o, ")");
    report_spawn(o, x->id, x->spawn_pc, ", ");
    out_str(o, "\n");
}

static void groups_body(void *arg, const ArchContext *here)
{
    Out o;
    (void)arg, (void)here;
    out_open(&o, STDERR_FILENO);
    for (uint32_t i = 0; i < found.n; i++)
        print_group(&o, &found.group[i]);
    if (found.left_out != 0) {
        out_str(&o, "weft: ");
        out_str(&o, found.what);
        out_str(&o, ": ");
        out_dec(&o, found.left_out);
        out_str(&o, " more coroutines\n");
    }
    out_flush(&o);
}

static void groups_begin(const char *what)
{
    found.what = what;
    found.n = 0;
    found.left_out = 0;
}

static void groups_print(void)
{
    if (found.n != 0 && !report_run(groups_body, NULL))
        warn("another report is being written: no census");
}

/* ---- never ended ---------------------------------------------------------------------------- */

static void visit_leaked(G *g, void *arg)
{
    const int64_t *now = arg;
    if (!(g->flags & (G_OWN | G_MAIN)))
        group_add(g, *now);
}

void census_leaks(void)
{
    int64_t now = sys_now();
    if (!sched.leaks)
        return;
    groups_begin("leak");
    coro_foreach_alone(visit_leaked, &now);
    groups_print();
}

/* ---- stuck ------------------------------------------------------------------------------------ */

typedef struct {
    uint64_t *key; /* 0: free */
    size_t size;   /* a power of two, or 0 */
} Set;

static struct {
    Set last, now;
    int64_t time;
    size_t coroutines;
} stuck;

/* The place of key, or the one for it. */
static uint64_t *set_at(const Set *s, uint64_t key)
{
    size_t at = key & (s->size - 1);
    while (s->key[at] != 0 && s->key[at] != key)
        at = (at + 1) & (s->size - 1);
    return &s->key[at];
}

static bool set_make(Set *s, size_t n)
{
    size_t size = 64;
    while (size < 2 * n)
        size *= 2;
    s->key = rt_alloc(size * sizeof s->key[0]);
    s->size = s->key != NULL ? size : 0;
    if (s->key != NULL)
        memset(s->key, 0, size * sizeof s->key[0]);
    return s->key != NULL;
}

static void visit_count(G *g, void *arg)
{
    (void)g, (void)arg;
    stuck.coroutines++;
}

static void visit_stuck(G *g, void *arg)
{
    (void)arg;
    if (get(&g->state) != G_WAITING || get(&g->reason) == WHY_START || g->flags & G_OWN ||
        stuck.time - g->since < sched.stuck)
        return;
    uint64_t key = ((uint64_t)g->since ^ g->id << 40 ^ g->id >> 24) * 0x9E3779B97F4A7C15u;
    key ^= key >> 32;
    key += key == 0;
    if (stuck.coroutines == 0) /* more than there were when they were counted: next time */
        return;
    stuck.coroutines--;
    *set_at(&stuck.now, key) = key;
    if (stuck.last.size == 0 || *set_at(&stuck.last, key) != key)
        group_add(g, stuck.time);
}

static void look_for_stuck(void)
{
    stuck.coroutines = 0;
    coro_foreach(visit_count, NULL);
    if (!set_make(&stuck.now, stuck.coroutines))
        return; /* as good as any other time */
    groups_begin("stuck");
    stuck.time = sys_now();
    note_racy_reads(true);
    coro_foreach(visit_stuck, NULL);
    note_racy_reads(false);
    rt_free(stuck.last.key);
    stuck.last = stuck.now;
    groups_print();
}

/* ---- the thread ------------------------------------------------------------------------------- */

/* Noticed when it is half as old again at the latest. */
static int64_t stuck_round(void)
{
    int64_t half = sched.stuck / 2;
    return half < 10 * MSEC ? 10 * MSEC : half > SEC ? SEC : half;
}

static void take_sigquit(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGQUIT);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void dump_if_asked(void)
{
    if (!atomic_exchange(&census.asked, false))
        return;
    warn("SIGQUIT: all coroutines:");
    dump_all(STDERR_FILENO);
}

static void census_main(void *room)
{
    int64_t next = 0; /* look for stuck ones */
    sys_thread_name("weft-census");
    rt_alloc_prepare(room);
    if (sched.sigquit)
        take_sigquit();
    while (!get_acq(&census.stop)) {
        int64_t now = sys_now(), until = 0;
        dump_if_asked();
        if (sched.stuck != 0) {
            if (now >= next) {
                look_for_stuck();
                next = sys_now() + stuck_round();
            }
            until = next;
        }
        if (get(&sched.deadlock))
            cycles_look(PATIENCE);
        atomic_store(&census.idle, true);
        if (cycles_waiting()) {
            atomic_store(&census.idle, false);
            now = sys_now();
            if (until == 0 || until > now + ROUND)
                until = now + ROUND;
        }
        sys_park(&census.word, 0, until);
        if (!get_acq(&census.stop))
            atomic_store(&census.word, 0);
    }
}

void census_wake(void)
{
    if (!atomic_load(&census.idle) || !atomic_exchange(&census.idle, false))
        return;
    atomic_store(&census.word, 1);
    sys_unpark(&census.word, 1);
}

void census_ask_dump(void)
{
    atomic_store(&census.asked, true);
    atomic_store(&census.word, 1);
    sys_unpark(&census.word, 1);
}

int census_start(void)
{
    void *room;
    census.runs = false;
    sched.system_threads = SYSTEM_THREADS;
    if (get(&sched.deadlock))
        cycles_start();
    if (!get(&sched.deadlock) && sched.stuck == 0 && !sched.sigquit)
        return 0;
    set(&census.stop, false);
    set(&census.asked, false);
    set(&census.idle, false);
    set(&census.word, 0);
    stuck.last = (Set){NULL, 0};
    if (!rt_alloc_room(&room))
        return -ENOMEM;
    int rc = sys_thread_create(&census.thread, census_main, room);
    if (rc != 0)
        rt_alloc_prepare(room);
    census.runs = rc == 0;
    sched.system_threads += census.runs;
    return rc;
}

void census_stop(void)
{
    if (!census.runs)
        return;
    census.runs = false;
    set_rel(&census.stop, true);
    atomic_store(&census.word, 1);
    sys_unpark(&census.word, 1);
    sys_thread_join(&census.thread);
    rt_free(stuck.last.key);
}
