/* SPDX-License-Identifier: MIT
 *
 * trace.c: what the scheduler does, into a file: weft_trace_start(), WEFT_DEBUG=trace=PATH. events.h has what is noted
 * and where, trace_format.h the file, tools/weft-trace what makes sense of it.
 *
 * Rings. Each thread that notes anything has a ring of records, which it alone fills; a thread of its own, the
 * drain, empties all of them into the file. Nobody waits for it: what finds its ring full is lost, and counted.
 *
 *      the thread (and its signal handlers)                the drain
 *      full? by tail - head (acquire head)                 record.kind != 0 (acquire): copy it
 *      at = tail++ (atomic: a handler may come between)    record.kind = 0
 *      fill record[at]                                     head = at + 1 (release)
 *      record.kind = kind (release)
 *
 * A handler that interrupts a writer takes a place behind its, and fills it first: the drain stops at the place that is not
 * yet filled. The places that handlers may take after the look at head are kept free (MARGIN). A record is whole once its
 * kind is stored. head pairs so that a place is not filled anew before it was copied.
 *
 * The end. Who stops a trace clears NOTE_TRACE, then reads each tail; a writer adds to its tail, then reads
 * NOTE_TRACE; all sequentially consistent. So a writer either is seen, and waited for (it is some instructions long, and
 * never stopped by preempt.c in between, being inside the runtime or a handler), or finds that the trace
 * is over and leaves a void record, for the next one to skip. Therefore rings are never freed, nor emptied by others than
 * the drain: a late writer always has a place to write to. They take memory as far as they have been used.
 *
 * Whose ring. ring.owner is taken by compare-and-swap from NULL, and given back (release) when the thread ends,
 * for another to go on behind its last record: a record says itself which thread it is of. A handler may take a second
 * one in the middle of that: both are given back.
 *
 * One trace at a time: trace.state, by compare-and-swap; who has made it CHANGING alone starts or stops. The drain's
 * thread counts as one of the system's (sched.system_threads) from when it was made until it is about to be joined,
 * so that a deadlock may be reported too late by that, never wrongly.
 *
 * Locks: none while anything is written. event_note() takes sched.lock; the list of who is there, coro_foreach()'s.
 */
#include "trace.h"

#include <errno.h>

enum { RING = 16384, MARGIN = 16, RINGS = 256, RINGS_MIN = 8 };
static const int64_t ROUND = 20000000;

/* As TraceRecord, but for its kind. */
typedef struct {
    int64_t when;
    uint64_t id, arg;
    uint32_t tid;
    uint16_t p;
    uint8_t detail;
    _Atomic uint8_t kind; /* 0: being filled, or empty */
} Place;
_Static_assert(sizeof(Place) == sizeof(TraceRecord), "copied as a whole");

typedef struct TraceRing {
    _Alignas(CACHE_LINE) _Atomic(const M *) owner; /* (a) NULL: nobody's */
    _Atomic uint64_t tail;                         /* (a) places taken; by the owner */
    _Alignas(CACHE_LINE) _Atomic uint64_t head;    /* (a) places emptied; by the drain */
    _Atomic uint64_t lost;                         /* (a) since the trace began */
    Place place[RING];
} Ring;

enum { IDLE, CHANGING, ON };

static struct {
    _Atomic uint32_t state;
    _Atomic(Ring *) rings; /* (a) made by the first trace, for good */
    uint32_t nrings;       /* (c) then */
    _Atomic uint32_t used; /* (a) those from here on were never owned */
    _Atomic uint64_t lost; /* (a) without a ring */
    char path[256];        /* (c) of a run: WEFT_DEBUG */
    _Atomic bool stop;
    _Atomic uint32_t word; /* park word of the drain; 1: come */
    SysThread thread;
} trace;

/* ---- rings: any thread, any handler -------------------------------------------------- */

static Ring *ring_claim(M *m)
{
    Ring *rings = get_acq(&trace.rings);
    for (uint32_t i = 0; rings != NULL && i < trace.nrings; i++) {
        const M *nobody = NULL;
        if (get(&rings[i].owner) != NULL ||
            !atomic_compare_exchange_strong(&rings[i].owner, &nobody, m))
            continue;
        uint32_t used = get(&trace.used);
        while (used <= i && !atomic_compare_exchange_weak(&trace.used, &used, i + 1))
            ;
        m->ring = &rings[i];
        return m->ring;
    }
    return NULL;
}

void trace_leave(const M *m)
{
    Ring *rings = m->ring != NULL ? get_acq(&trace.rings) : NULL;
    for (uint32_t i = 0; rings != NULL && i < get(&trace.used); i++)
        if (get(&rings[i].owner) == m)
            set_rel(&rings[i].owner, NULL); /* pairs with ring_claim(): tail, places */
}

static void drain_wake(void)
{
    if (atomic_exchange(&trace.word, 1) == 0)
        sys_unpark(&trace.word, 1);
}

static void ring_put(Ring *r, const TraceRecord *x)
{
    uint64_t used = get(&r->tail) - get_acq(&r->head); /* acquire: the place was copied */
    if (unlikely(used >= RING - MARGIN)) {
        atomic_fetch_add_explicit(&r->lost, 1, memory_order_relaxed);
        return;
    }
    uint64_t at = atomic_fetch_add(&r->tail, 1); /* pairs with drain_rest() */
    bool on = atomic_load(&sched.noting) & NOTE_TRACE;
    Place *to = &r->place[at % RING];
    to->when = x->when;
    to->id = x->id;
    to->arg = x->arg;
    to->tid = x->tid;
    to->p = x->p;
    to->detail = x->detail;
    set_rel(&to->kind, on ? x->kind : TRACE_VOID);
    if (unlikely(at % (RING / 4) == 0 && used > RING / 4))
        drain_wake();
}

static void put(const TraceRecord *x, M *m)
{
    Ring *r = m != NULL ? m->ring : NULL;
    if (unlikely(r == NULL) && (m == NULL || (r = ring_claim(m)) == NULL))
        atomic_fetch_add_explicit(&trace.lost, 1, memory_order_relaxed);
    else
        ring_put(r, x);
}

void trace_put(enum TraceKind kind, uint8_t detail, uint32_t p, uint64_t id, uint64_t arg,
               int64_t when)
{
    M *m = arch_self();
    TraceRecord x = {.when = when,
                     .id = id,
                     .arg = arg,
                     .tid = m != NULL ? (uint32_t)m->tid : 0,
                     .p = (uint16_t)p,
                     .detail = detail,
                     .kind = (uint8_t)kind};
    put(&x, m);
}

static void put_piece(const TraceRecord *x, void *m)
{
    put(x, m);
}

void trace_name(const G *g)
{
    const char *name = name_of(g);
    if (*name != '\0')
        trace_cut(TRACE_NAME, g->id, name, strlen(name), put_piece, arch_self());
}

/* ---- the drain -------------------------------------------------------------------------------- */

/* Up to tail, or the first place that is not filled yet. */
static void drain_ring(Ring *r, uint64_t tail)
{
    uint64_t head = get(&r->head);
    for (; head != tail; head++) {
        Place *from = &r->place[head % RING];
        uint8_t kind = get_acq(&from->kind); /* pairs with ring_put() */
        if (kind == 0)
            break;
        TraceRecord x = {.when = from->when,
                         .id = from->id,
                         .arg = from->arg,
                         .tid = from->tid,
                         .p = from->p,
                         .detail = from->detail,
                         .kind = kind};
        set(&from->kind, 0);
        set_rel(&r->head, head + 1); /* pairs with ring_put() */
        if (kind != TRACE_VOID)
            trace_file_put(&x);
    }
}

static void drain_all(void)
{
    Ring *rings = get(&trace.rings);
    for (uint32_t i = 0; i < get_acq(&trace.used); i++)
        drain_ring(&rings[i], get(&rings[i].tail));
    trace_file_flush();
}

/* NOTE_TRACE is clear. */
static void drain_rest(void)
{
    Ring *rings = get(&trace.rings);
    for (uint32_t i = 0; i < atomic_load(&trace.used); i++) {
        uint64_t tail = atomic_load(&rings[i].tail); /* pairs with ring_put() */
        for (drain_ring(&rings[i], tail); get(&rings[i].head) != tail; drain_ring(&rings[i], tail))
            sys_yield(); /* it is being filled */
        atomic_fetch_add(&trace.lost, atomic_exchange(&rings[i].lost, 0));
    }
    trace_file_flush();
}

static void drain_main(void *room)
{
    sys_thread_name("weft-trace");
    rt_alloc_prepare(room);
    while (!get_acq(&trace.stop)) {
        drain_all();
        sys_park(&trace.word, 0, sys_now() + ROUND);
        atomic_store(&trace.word, 0);
    }
    drain_rest();
}

/* ---- start and stop: the state is CHANGING --------------------------------------------------- */

/* For good, and fewer where address space is scarce. */
static bool make_rings(void)
{
    Ring *rings = get(&trace.rings);
    for (uint32_t n = RINGS; rings == NULL && n >= RINGS_MIN; n /= 2)
        if ((rings = sys_reserve(n * sizeof *rings, sys_page())) != NULL) {
            trace.nrings = n;
            set_rel(&trace.rings, rings); /* pairs with ring_claim() */
        }
    return rings != NULL;
}

static int drain_start(void)
{
    void *room;
    if (!rt_alloc_room(&room))
        return -ENOMEM;
    int rc = sys_thread_create(&trace.thread, drain_main, room);
    if (rc != 0)
        rt_alloc_prepare(room);
    return rc;
}

static void count_thread(uint32_t n)
{
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    sched.system_threads += n;
    lock_release(&sched.lock);
}

static void note(bool on)
{
    event_note(on || !sched.latencies ? NOTE_TRACE | NOTE_LATENCY : NOTE_TRACE, on);
}

static int begin(const char *path)
{
    if (!make_rings())
        return -ENOMEM;
    int rc = trace_file_open(path);
    if (rc != 0)
        return rc;
    set(&trace.lost, 0);
    set(&trace.stop, false);
    set(&trace.word, 0);
    note(true); /* first, so that nobody is missed */
    if ((rc = trace_file_present()) == 0 && (rc = drain_start()) == 0) {
        count_thread(1);
        return 0;
    }
    note(false);
    trace_file_drop();
    drain_rest(); /* they are not the next trace's */
    trace_file_close(0);
    return rc;
}

static int end(void)
{
    note(false);
    set_rel(&trace.stop, true);
    drain_wake();
    count_thread(-1u);
    sys_thread_join(&trace.thread);
    return trace_file_close(get(&trace.lost));
}

static int change(uint32_t from, uint32_t to, int (*how)(const char *), const char *path)
{
    if (!atomic_compare_exchange_strong(&trace.state, &from, CHANGING))
        return from == IDLE ? -EINVAL : -EBUSY;
    int saved = *weft_errno();
    int rc = how != NULL ? how(path) : end();
    *weft_errno() = saved;
    atomic_store(&trace.state, how != NULL && rc != 0 ? IDLE : to);
    return rc;
}

/* ---- a run -------------------------------------------------------------------------------------- */

bool trace_set_path(const char *s, size_t len)
{
    if (len >= sizeof trace.path)
        return false;
    memcpy(trace.path, s, len);
    trace.path[len] = '\0';
    return true;
}

void trace_begin_run(void)
{
    if (trace.path[0] == '\0')
        return;
    int rc = change(IDLE, ON, begin, trace.path);
    if (rc != 0)
        warn("WEFT_DEBUG=trace=%s: %s", trace.path, strerror(-rc));
}

void trace_end_run(void)
{
    while (get_acq(&trace.state) == CHANGING)
        sys_yield(); /* a foreign thread is about to be done with that */
    if (get_acq(&trace.state) != ON)
        return;
    int rc = change(ON, IDLE, NULL, NULL);
    if (rc != 0)
        warn("the trace is not whole: %s", strerror(-rc));
}

/* ---- public ------------------------------------------------------------------------------------- */

static int enter_and_change(uint32_t from, uint32_t to, int (*how)(const char *), const char *path)
{
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    int rc = -EPERM;
    if (get_acq(&sched.active))
        rc = change(from, to, how, path);
    if (m->p != NULL)
        m->p->id_end = m->p->id_next; /* what the caller makes before its next switch is noted */
    rt_leave(m);
    return rc;
}

int weft_trace_start(const char *path)
{
    return path == NULL ? -EINVAL : enter_and_change(IDLE, ON, begin, path);
}

int weft_trace_stop(void)
{
    return enter_and_change(ON, IDLE, NULL, NULL);
}
