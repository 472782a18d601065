/* SPDX-License-Identifier: MIT
 *
 * hogs.c: coroutines that were preempted.
 *
 * Three queues, each first in, first out. *urgent*: stopped inside libc, the
 * loader or an allocator, where it may hold a lock that everybody needs. *aside*:
 * asked to give way to something woken, long before the end of their slices: a P may
 * look busy for long because its thread had no CPU. *hogs*: those that had used up a slice;
 * one that was stopped before the next was over goes back to the front.
 *
 * Order of a P: its own queue, the global one, what can be stolen, urgent, aside, hogs;
 * aside has a turn every 64 picks besides, like the global queue (sched.c), whose
 * part it would be if what is held there could not be needed by all (monitor.c, Lending).
 * So a coroutine that was woken never waits for a hog that is queued; and hogs do
 * not starve: a P that has not run one for HOG_WAIT while some waited runs one next
 * (ATT_HOG), and lets it have its slice whatever is woken meanwhile. That is one
 * slice in N = 8. A P without a pause for seven slices has more work than it can
 * do, and then nobody can be promised to run at once; with a pause, however short,
 * it runs a hog anyway. A larger N would let a burst of 100 ms starve a
 * computation; a smaller one takes from the woken more than a processor in eight.
 *
 * The queues are lists under sched.lock, because a signal handler takes from them
 * (preempt.c) with a single try for that lock. Nobody allocates or waits for a
 * user's lock under sched.lock, else a stopped coroutine could hold up everybody.
 */
#include "glist.h"

static const int64_t HOG_WAIT = 70000000;

static GList urgent, aside, hogs;            /* S */
static _Atomic bool some_urgent, some_aside; /* not empty; written under S */
static _Atomic int64_t since;                /* when they ceased to be empty; written under S */

/* S held. g has been taken out of one of the lists. */
static G *counted(G *g)
{
    if (g == NULL)
        return NULL;
    set(&some_urgent, urgent.head != NULL);
    set(&some_aside, aside.head != NULL);
    set(&sched.hogs_n, get(&sched.hogs_n) - 1);
    return g;
}

void hogs_put(G *g, enum HogPlace place)
{
    assert_held(&sched.lock);
    if (get(&sched.hogs_n) == 0)
        set(&since, sys_now());
    if (place == HOG_URGENT) {
        glist_put(&urgent, g, g);
        set(&some_urgent, true);
    } else if (place == HOG_NOT) {
        glist_put(&aside, g, g);
        set(&some_aside, true);
    } else if (place == HOG_FIRST) {
        glist_put_first(&hogs, g);
    } else {
        glist_put(&hogs, g, g);
    }
    atomic_store(&sched.hogs_n, get(&sched.hogs_n) + 1); /* seq_cst: runq.c, Submission */
}

/* One of hogs is a hog again as soon as it runs; a held one's thread says so itself. */
static G *take(P *p, bool turn)
{
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    G *g = counted(glist_get(&urgent));
    if (g == NULL && !turn)
        g = counted(glist_get(&aside));
    bool hog = g == NULL && (g = counted(glist_get(&hogs))) != NULL;
    lock_release(&sched.lock);
    if (hog || turn)
        p->hog_ran = p->now;
    if (hog && !g->held)
        set(&p->hog_tick, get(&p->tick));
    return g;
}

G *hogs_get(P *p)
{
    return get(&sched.hogs_n) != 0 ? take(p, false) : NULL;
}

G *hogs_get_turn(P *p)
{
    return get(&sched.hogs_n) != 0 ? take(p, true) : NULL;
}

G *hogs_get_aside(void)
{
    if (!get(&some_aside))
        return NULL;
    lock_acquire(NULL, &sched.lock, RANK_SCHED);
    G *g = counted(glist_get(&aside));
    lock_release(&sched.lock);
    return g;
}

static GList *first_list(void)
{
    return urgent.head != NULL ? &urgent : aside.head != NULL ? &aside : &hogs;
}

bool hogs_next_is_held(void)
{
    assert_held(&sched.lock);
    G *g = first_list()->head;
    return g != NULL && g->held;
}

G *hogs_get_held(void)
{
    return hogs_next_is_held() ? counted(glist_get(first_list())) : NULL;
}

G *hogs_find_held(void)
{
    assert_held(&sched.lock);
    G *g = glist_get_held(&urgent);
    if (g == NULL)
        g = glist_get_held(&aside);
    if (g == NULL)
        g = glist_get_held(&hogs);
    return counted(g);
}

G *hogs_get_urgent(int64_t before)
{
    assert_held(&sched.lock);
    G *g = urgent.head;
    return g != NULL && g->held && g->m->held_since <= before ? counted(glist_get(&urgent)) : NULL;
}

bool hogs_urgent(void)
{
    return get(&some_urgent);
}

bool hogs_due(P *p)
{
    int64_t from = get(&since);
    return get(&sched.hogs_n) != 0 && p->now - (p->hog_ran > from ? p->hog_ran : from) > HOG_WAIT;
}

void hogs_reset(void)
{
    urgent = aside = hogs = (GList){NULL, NULL};
    set(&some_urgent, false);
    set(&some_aside, false);
    set(&sched.hogs_n, 0);
}
