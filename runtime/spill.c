/* SPDX-License-Identifier: MIT
 *
 * spill.c: what does not fit into a P's ring.
 *
 * Half of a full ring becomes a *batch*, and batches lie on a stack: the last
 * one spilled is taken up first. A program that spawns a tree then walks it
 * depth first where the ring overflows, and holds some thousand coroutines at a
 * time instead of all of its leaves: a million-leaf skynet runs more than twice
 * as fast as with Go's order (spill to the tail of the global queue), since
 * records and stacks stay in the cache. A batch is an array, so that a
 * coroutine's record is not touched between its spill and its run.
 *
 * Nothing waits for ever: every GLOBAL-th switch looks at the global queue
 * (sched.c), every other time at the bottom of this stack: the oldest coroutine
 * of all runs next.
 *
 * Locking: sched.lock. sched.runq_n counts these too. Without memory for a
 * batch the caller falls back to the global queue.
 */
#include "rt.h"

typedef struct Batch {
    struct Batch *up, *down;
    uint32_t first, n; /* g[first .. n) are left */
    G *g[RUNQ / 2 + 1];
} Batch;

enum { SPARE = 32 };

static struct {
    Batch *top, *bottom;
    Batch *spare;
    _Atomic uint32_t nspare; /* written under S */
} spill;

static Batch *spare_get(void)
{
    Batch *b = spill.spare;
    if (b != NULL) {
        spill.spare = b->up;
        set(&spill.nspare, get(&spill.nspare) - 1);
    }
    return b;
}

static void batch_drop(Batch *b)
{
    *(b->up != NULL ? &b->up->down : &spill.top) = b->down;
    *(b->down != NULL ? &b->down->up : &spill.bottom) = b->up;
    b->up = spill.spare;
    spill.spare = b;
    set(&spill.nspare, get(&spill.nspare) + 1);
}

void spill_trim(void)
{
    while (unlikely(get(&spill.nspare) > SPARE)) {
        lock_acquire(NULL, &sched.lock, RANK_SCHED);
        Batch *b = spare_get();
        lock_release(&sched.lock);
        rt_free(b);
    }
}

static void count(int32_t n)
{
    atomic_store(&sched.runq_n, get(&sched.runq_n) + (uint32_t)n); /* seq_cst: runq.c, Submission */
}

bool spill_put(P *p, uint32_t head, G *extra)
{
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    Batch *b = spare_get();
    if (b == NULL) { /* not under the lock: hogs.c */
        lock_release(&sched.lock);
        b = rt_alloc(sizeof *b);
        lock_acquire(NULL, &sched.lock, RANK_SCHED);
    }
    if (b != NULL) {
        for (b->n = 0; b->n < RUNQ / 2; b->n++)
            b->g[b->n] = get(&p->ring[(head + b->n) % RUNQ]);
        b->g[b->n++] = extra;
        b->first = 0;
        b->up = NULL;
        b->down = spill.top;
        *(spill.top != NULL ? &spill.top->up : &spill.bottom) = b;
        spill.top = b;
        count((int32_t)b->n);
    }
    lock_release(&sched.lock);
    return b != NULL;
}

/* S held. */
G *spill_oldest(void)
{
    Batch *b = spill.bottom;
    if (b == NULL)
        return NULL;
    G *g = b->g[b->first++];
    if (b->first == b->n)
        batch_drop(b);
    count(-1);
    return g;
}

/* S held. At most max of the youngest batch into to[]: how many. */
uint32_t spill_take(G **to, uint32_t max)
{
    Batch *b = spill.top;
    uint32_t n = 0;
    if (b == NULL)
        return 0;
    while (n < max && b->first < b->n)
        to[n++] = b->g[b->first++];
    if (b->first == b->n)
        batch_drop(b);
    count(-(int32_t)n);
    return n;
}

void spill_fini(void)
{
    while (spill.top != NULL)
        batch_drop(spill.top);
    for (Batch *b = spill.spare, *next; b != NULL; b = next) {
        next = b->up;
        rt_free(b);
    }
    spill.spare = NULL;
    set(&spill.nspare, 0);
}
