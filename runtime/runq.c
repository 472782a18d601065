/* SPDX-License-Identifier: MIT
 *
 * runq.c: the run queues.
 *
 * Each P has a ring of 256 Gs and one place in front of it, runnext. Its owner
 * (the M that holds the P) puts at tail; the owner and thieves take from head.
 * What does not fit is spilled (spill.c). The global queue, a list under
 * sched.lock, holds what threads without a P made ready. Before it come those that are back from
 * the kernel and have lost their P there (syscall.c): each is held by a thread that waits with it.
 *
 * Ordering. The owner writes ring[tail] and then publishes it by storing tail
 * (release); a thief loads tail (acquire) before it reads the slot. Whoever
 * takes moves head by CAS (release); the owner loads head (acquire) before it
 * writes a slot again, so a slot is never overwritten while a thief that will
 * win still has to read it. A thief that loses the CAS drops what it read.
 * head and tail only grow (mod 2^32); tail - head <= 256 for any pair read as
 * head first, tail second by the owner; a thief may read an old head with a new
 * tail, sees more than 256 and tries again.
 *
 * With one P nobody steals: until `stealable` is set, which the owner does
 * itself, it takes with plain stores. Thieves look at the flag (acquire) first.
 *
 * Submission against going idle (idle.c): what is put here must be seen by an M
 * that is about to sleep, or we must see that it is idle. The put ends with a
 * sequentially consistent operation (the exchange of runnext, the store of
 * tail) before idle_p is read; the sleeper does the reverse. With one P there is
 * nobody to wake.
 */
#include "glist.h"

enum { PATIENCE = 3000, PATIENCE_MOST = 30000 /* ns */, TO_AND_FRO = 2 };

static void put_overflow(P *p, G *g, uint32_t h);

static bool take_heads(P *p, uint32_t h, uint32_t n)
{
    if (!get(&p->stealable)) {
        set(&p->head, h + n);
        return true;
    }
    return atomic_compare_exchange_strong_explicit(&p->head, &h, h + n, memory_order_release,
                                                   memory_order_relaxed);
}

void runq_put(P *p, G *g)
{
    for (;;) {
        uint32_t h = get_acq(&p->head); /* pairs with the release of whoever took */
        uint32_t t = get(&p->tail);
        if (likely(t - h < RUNQ)) {
            set(&p->ring[t % RUNQ], g);
            if (get(&p->stealable))
                atomic_store(&p->tail, t + 1); /* seq_cst: see Submission */
            else
                set_rel(&p->tail, t + 1);
            return;
        }
        if (take_heads(p, h, RUNQ / 2)) {
            put_overflow(p, g, h);
            return;
        }
    }
}

/* The older half of the ring, just taken, and g. */
static void put_overflow(P *p, G *g, uint32_t h)
{
    if (likely(spill_put(p, h, g)))
        return;
    G *head = get(&p->ring[h % RUNQ]), *last = head;
    for (uint32_t i = 1; i < RUNQ / 2; i++)
        last = last->link = get(&p->ring[(h + i) % RUNQ]);
    last->link = g;
    runq_put_global(head, g, RUNQ / 2 + 1);
}

void runq_put_next(M *m, P *p, G *g)
{
    if (chaos(m, 2)) {
        runq_put(p, g);
        return;
    }
    G *old;
    if (get(&p->stealable)) {
        old = atomic_exchange(&p->runnext, g); /* seq_cst: see Submission */
    } else {
        old = get(&p->runnext);
        set(&p->runnext, g);
    }
    if (old != NULL)
        runq_put(p, old);
}

G *runq_take_next(P *p)
{
    if (get(&p->stealable))
        return get(&p->runnext) ? atomic_exchange_explicit(&p->runnext, NULL, memory_order_acq_rel)
                                : NULL;
    G *g = get(&p->runnext);
    set(&p->runnext, NULL);
    return g;
}

G *runq_get(P *p)
{
    for (;;) {
        uint32_t h = get_acq(&p->head);
        if (get(&p->tail) == h)
            return NULL;
        G *g = get(&p->ring[h % RUNQ]);
        if (take_heads(p, h, 1))
            return g;
    }
}

uint32_t runq_len(P *p)
{
    for (;;) {
        uint32_t h = atomic_load(&p->head), t = atomic_load(&p->tail);
        if (h == atomic_load(&p->head)) {
            uint32_t n = t - h;
            return (n > RUNQ ? RUNQ : n) + (atomic_load(&p->runnext) != NULL);
        }
    }
}

/* "Empty" must be a moment at which both were empty: runnext may be kicked into
 * the ring between two looks, so tail is read on both sides of it. */
bool runq_empty(P *p)
{
    for (;;) {
        uint32_t h = atomic_load(&p->head), t = atomic_load(&p->tail);
        G *next = atomic_load(&p->runnext);
        if (t == atomic_load(&p->tail))
            return h == t && next == NULL;
    }
}

/* Copy half of victim's ring behind p's tail (not yet published): how many. */
static uint32_t grab(P *p, uint32_t at, P *victim)
{
    for (;;) {
        uint32_t h = get_acq(&victim->head);
        uint32_t t = get_acq(&victim->tail); /* pairs with runq_put */
        uint32_t n = t - h;
        n -= n / 2;
        if (n == 0)
            return 0;
        if (n > RUNQ / 2) /* h and t are of different moments */
            continue;
        for (uint32_t i = 0; i < n; i++)
            set(&p->ring[(at + i) % RUNQ], get(&victim->ring[(h + i) % RUNQ]));
        if (atomic_compare_exchange_strong_explicit(&victim->head, &h, h + n, memory_order_acq_rel,
                                                    memory_order_relaxed))
            return n;
    }
}

/* The victim most likely runs it itself in a moment: it has just made it
 * ready and is about to park. Taking it would bounce the two between CPUs.
 * PATIENCE, as Go: longer than a send and a switch. It begins when the victim is back from the call that has woken
 * us, which alone takes longer: taking it then would tear every pair apart. A victim that has switched
 * to and fro meanwhile gets along by itself. Nobody is forgotten: as long as we see something there we do not go to
 * bed (idle.c, (d)), and if the victim then keeps on computing we take it next time. */
static G *grab_next(P *victim)
{
    if (get(&victim->runnext) == NULL)
        return NULL;
    uint32_t tick = get(&victim->tick);
    if (get(&victim->state) == P_RUNNING) {
        int64_t now = sys_now(), until = now + PATIENCE, most = now + PATIENCE_MOST;
        for (; now < until; now = sys_now()) {
            if (get(&victim->waking) && now < most)
                until = now + PATIENCE;
            arch_pause();
        }
        if (get(&victim->tick) - tick >= TO_AND_FRO)
            return NULL;
    }
    return atomic_exchange_explicit(&victim->runnext, NULL, memory_order_acq_rel);
}

G *runq_steal(P *p, P *victim, bool next)
{
    if (!get_acq(&victim->stealable))
        return NULL;
    uint32_t t = get(&p->tail);
    uint32_t n = grab(p, t, victim);
    if (n == 0) {
        G *g = next ? grab_next(victim) : NULL;
        if (g != NULL)
            bump(&p->steals, 1);
        return g;
    }
    bump(&p->steals, n);
    n--;
    G *g = get(&p->ring[(t + n) % RUNQ]);
    if (n > 0)
        atomic_store(&p->tail, t + n); /* our ring was empty: there is room for half of another */
    return g;
}

void runq_drain(P *p, G **head, G **tail, uint32_t *n)
{
    *head = *tail = NULL;
    *n = 0;
    G *g;
    while ((g = runq_take_next(p)) != NULL || (g = runq_get(p)) != NULL) {
        g->link = NULL;
        if (*tail != NULL)
            (*tail)->link = g;
        else
            *head = g;
        *tail = g;
        ++*n;
    }
}

void runq_put_global(G *head, G *tail, uint32_t n)
{
    if (n == 0)
        return;
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    glist_put(&sched.runq, head, tail);
    atomic_store(&sched.runq_n, get(&sched.runq_n) + n); /* seq_cst: see Submission */
    lock_release(&sched.lock);
}

void runq_put_back(G *g)
{
    assert_held(&sched.lock);
    glist_put(&sched.back, g, g);
    atomic_store(&sched.runq_n, get(&sched.runq_n) + 1); /* seq_cst: see Submission */
}

/* S held. g has been taken out of one of the lists. */
static G *counted(G *g)
{
    if (g != NULL)
        set(&sched.runq_n, get(&sched.runq_n) - 1);
    return g;
}

G *runq_get_back(void)
{
    assert_held(&sched.lock);
    return counted(glist_get(&sched.back));
}

/* S held. The head of the global queue. */
static G *pop_global(void)
{
    G *g = runq_get_back();
    return g != NULL ? g : counted(glist_get(&sched.runq));
}

G *runq_get_held(void)
{
    G *g = runq_get_back();
    return g != NULL ? g : counted(glist_get_held(&sched.runq));
}

G *runq_get_oldest(P *p)
{
    if (get(&sched.runq_n) == 0)
        return NULL;
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    bool spilled_first = ++p->turns % 2 == 0;
    G *g = spilled_first ? spill_oldest() : pop_global();
    if (g == NULL)
        g = spilled_first ? pop_global() : spill_oldest();
    lock_release(&sched.lock);
    spill_trim();
    return g;
}

G *runq_get_global(M *m, P *p)
{
    G *batch[RUNQ / 2 + 1];
    if (get(&sched.runq_n) == 0)
        return NULL;
    uint32_t room = RUNQ - (get(&p->tail) - get_acq(&p->head)) + 1, n = 0;
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    uint32_t share = get(&sched.runq_n) / get(&sched.procs) + 1, max = RUNQ / 2 + 1;
    if (max > room)
        max = room;
    if ((batch[0] = runq_get_back()) != NULL)
        n = share =
            1; /* alone: in a ring nobody would find that it has a thread (hold.c, successor) */
    while (n < share && n < max && (batch[n] = pop_global()) != NULL)
        n++;
    if (n == 0)
        n = spill_take(batch, max);
    lock_release(&sched.lock);
    spill_trim();
    for (uint32_t i = 1; i < n; i++)
        runq_put(p, batch[i]);
    if (n > 1)
        idle_wake(m); /* for a moment they were in no queue at all */
    return n > 0 ? batch[0] : NULL;
}
