/* SPDX-License-Identifier: MIT
 *
 * known.c: coroutines whose id somebody may have: join, cancel.
 *
 * An id that nobody has asked for costs nothing: only a coroutine that was started with attr.id or with a
 * context, or has called weft_id(), and main, are *known*: they have an Extra, which is listed in a table by id
 * until they end. Ids are never used again, so one that is not listed, but was given out, has ended. If
 * there was no memory to list one, `unlisted` says that this is no longer so, and who does not find
 * an id looks through all Gs.
 *
 * Join. Who waits for an id queues in the lot of a made-up odd address (lot.c), where no object lies,
 * after having seen under the lot's lock that the id is listed. Who ends takes itself off the list
 * first and then, under the lot's lock, grants all who wait. So either the joiner sees that it is off the list,
 * or it is in the queue before that grant.
 *
 * Cancel. Each wait of a known coroutine is contested (wait_contested()): as with a deadline, who ends it
 * must win wait_claim(), be it a waker, the timer or a canceller; a wait that lost is taken out of its queue by its
 * owner, by the same code for both. What remains is that the canceller must not miss a coroutine that is about to
 * park, nor wake one that is not off its stack yet:
 *
 *      the commit of the park, serial s:       the canceller, under the shard's lock:
 *          arm the timer                           CANCELLED = 1
 *          parked = s                              claim the wait `parked`; done if that was won
 *          (compiler barrier)                      membarrier()
 *          CANCELLED and not MASKED: claim s       claim the wait `parked`
 *          let go of the queue
 *
 * membarrier() puts a full barrier somewhere into the left column. If `parked` was stored before it, the second claim
 * finds it; else CANCELLED is read after it, and seen. A claim of s that is won means that the coroutine still waits
 * there, off its stack since `parked` was stored. Whatever `parked` says of waits that are over does no harm:
 * claims of those are lost. So a park costs two plain accesses, and cancelling, which is rare, a barrier
 * at most.
 *   MASKED is written by the coroutine itself, while it runs. The canceller reads `parked`, then MASKED: what it reads
 * holds for that wait, or the wait is over and the claim lost.
 *   A wait with a queue: whoever was woken by its timer or a canceller has to take the queue's lock, and the commit is
 * done with it when it lets go of that. A wait without (a sleep): the commit holds the shard's lock instead, and
 * who was woken takes it once.
 *
 * The shard's lock keeps the Extra, and with it the G, while somebody cancels it. (tests/model/cancel.pml)
 *
 * Locks: RANK_LOT, then RANK_KNOWN (a shard), which is taken by commits, too; under it timers.
 * coro_lock_all() for what dumps read.
 */
#include "lot.h"
#include "sync.h"

enum { SHARDS = 256, FIRST = 8 };

typedef struct {
    _Alignas(CACHE_LINE) Lock lock;
    uint32_t n;    /* (l) */
    uint32_t size; /* (l) of the table, a power of two; 0: first[] */
    Extra **table; /* (l) pages of the system: commits cannot wait for malloc */
    Extra *first[FIRST];
} Shard;

static Shard shards[SHARDS];
static _Atomic bool unlisted; /* some G has G_UNLISTED */

/* ---- the list ---- */

static inline Shard *shard_of(uint64_t id)
{
    return &shards[id % SHARDS];
}

static Shard *shard_lock(M *m, uint64_t id)
{
    Shard *s = shard_of(id);
    lock_acquire(m, &s->lock, RANK_KNOWN);
    return s;
}

static Extra **bucket(Shard *s, uint64_t id)
{
    return s->size == 0 ? &s->first[id / SHARDS % FIRST] : &s->table[id / SHARDS & (s->size - 1)];
}

static Extra **find(Shard *s, uint64_t id)
{
    Extra **at = bucket(s, id);
    while (*at != NULL && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

static void move_all(Shard *s, Extra **from, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        for (Extra *x = from[i], *next; x != NULL; x = next) {
            Extra **at = bucket(s, x->id);
            next = x->next;
            x->next = *at;
            *at = x;
        }
}

/* Four times as many buckets; without memory it stays as it is. */
static void grow(Shard *s)
{
    uint32_t old = s->size, size = old == 0 ? (uint32_t)(sys_page() / sizeof(Extra *)) : 4 * old;
    Extra **table = sys_reserve(size * sizeof *table, sys_page()), **was = s->table;
    if (table == NULL)
        return;
    s->table = table;
    s->size = size;
    move_all(s, old == 0 ? s->first : was, old == 0 ? FIRST : old);
    if (old != 0)
        sys_release(was, old * sizeof *was);
}

void known_add(M *m, G *g)
{
    Extra *x = g->x;
    x->g = g;
    x->id = g->id;
    Shard *s = shard_lock(m, x->id);
    if (unlikely(s->n++ >= 2 * (s->size == 0 ? FIRST : s->size)))
        grow(s);
    Extra **at = bucket(s, x->id);
    x->next = *at;
    *at = x;
    lock_release(&s->lock);
    x->listed = true;
    g->flags |= G_KNOWN;
}

static void remove_from_list(M *m, G *g)
{
    Shard *s = shard_lock(m, g->id);
    Extra **at = find(s, g->id);
    *at = g->x->next;
    s->n--;
    lock_release(&s->lock);
    g->x->listed = false;
    g->flags &= (uint16_t)~G_KNOWN;
}

static bool listed(M *m, uint64_t id)
{
    Shard *s = shard_lock(m, id);
    bool there = *find(s, id) != NULL;
    lock_release(&s->lock);
    return there;
}

typedef struct {
    uint64_t id;
    bool there;
} Search;

static void search(G *g, void *arg)
{
    Search *s = arg;
    s->there = s->there || (g->id == s->id && g->flags & G_UNLISTED);
}

/* Not listed: has it ended? */
static bool alive_unlisted(uint64_t id)
{
    Search s = {.id = id};
    if (unlikely(get(&unlisted)))
        coro_foreach(search, &s);
    return s.there;
}

void known_reset(void)
{
    for (Shard *s = shards; s < shards + SHARDS; s++) {
        lock_acquire(NULL, &s->lock, RANK_KNOWN);
        memset(s->first, 0, sizeof s->first);
        if (s->size != 0)
            sys_release(s->table, s->size * sizeof *s->table);
        s->n = s->size = 0;
        lock_release(&s->lock);
    }
    set(&unlisted, false);
}

/* ---- parking, of those that can be cancelled ---- */

Lock *known_lock(M *m, const G *g)
{
    return &shard_lock(m, g->id)->lock;
}

bool known_claim(G *g, uint64_t serial)
{
    if (serial == 0 || get(&g->x->bits) & KNOWN_MASKED || !wait_claim(g, serial))
        return false;
    g->woke = NULL;
    g->result = -ECANCELED;
    return true;
}

/* The shard is locked. The G that is to be made ready for it, or NULL. */
static G *cancel_extra(Extra *x)
{
    G *g = x->g;
    atomic_fetch_or(&x->bits, KNOWN_CANCELLED);
    if (known_claim(g, get_acq(&x->parked)))
        return g;
    sys_membarrier(); /* pairs with the fence in known_parks() */
    return known_claim(g, get_acq(&x->parked)) ? g : NULL;
}

int cancel_coroutine(M *m, uint64_t id)
{
    if (!get_acq(&sched.active)) /* its end waits for foreign threads that have seen it active */
        return -ESRCH;
    Shard *s = shard_lock(m, id);
    Extra *x = *find(s, id);
    G *g = x != NULL ? cancel_extra(x) : NULL;
    lock_release(&s->lock);
    if (g != NULL)
        sched_ready(m, g);
    if (x != NULL)
        return 0;
    return alive_unlisted(id) ? -ENOMEM : -ESRCH;
}

/* ---- the end ---- */

static const void *join_address(uint64_t id)
{
    return (const void *)(uintptr_t)(id << 1 | 1);
}

void known_end(M *m, G *g)
{
    uint64_t id = g->id;
    const void *addr = join_address(id);
    GList ready = {NULL, NULL};
    remove_from_list(m, g);
    Lot *lot = lot_lock(m, addr);
    for (Wait *w; (w = lot_first(lot, addr)) != NULL;)
        lot_grant(lot, w, &ready);
    lot_unlock(lot);
    sched_ready_list(m, ready.head);
}

/* ---- public ---- */

static int join(M **mp, uint64_t id, int64_t deadline)
{
    M *m = *mp;
    LotWait how = {.addr = join_address(id), .deadline = deadline, .why = WHY_JOIN};
    if (m->g->id == id && !m->foreign)
        return -EDEADLK;
    Lot *lot = lot_lock(m, how.addr);
    int rc = 0;
    if (listed(m, id) && (rc = sync_may_wait(deadline)) == 0 && (rc = lot_wait(mp, lot, &how)) == 0)
        return 0;
    lot_unlock(lot);
    return rc == 0 && alive_unlisted(id) ? -ENOMEM : rc;
}

int weft_join(weft_id_t id, int64_t deadline)
{
    if (id == 0 || id >= get(&sched.ids))
        return -ESRCH;
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    m = chaos_yield(m, 4);
    int rc = join(&m, id, deadline);
    rt_leave(m);
    return rc;
}

int weft_cancel(weft_id_t id)
{
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    m = chaos_yield(m, 4);
    int rc = cancel_coroutine(m, id);
    rt_leave(m);
    return rc;
}

/* The caller is to be known from now on. */
static int become_known(M *m)
{
    Extra *x = extra_of(m->g);
    if (x == NULL)
        return -ENOMEM;
    if (!x->listed && !x->ends)
        known_add(m, m->g);
    return 0;
}

weft_id_t weft_id(void)
{
    G *g = coro_self();
    if (g == NULL)
        return 0;
    if (unlikely((g->flags & G_KNOWN) == 0)) {
        M *m = rt_enter();
        if (become_known(m) != 0) { /* perhaps next time */
            g->flags |= G_UNLISTED;
            set(&unlisted, true);
        }
        rt_leave(m);
    }
    return g->id;
}

int weft_cancel_mask(int on)
{
    G *g = coro_self();
    if (g == NULL)
        return rt_no_coro();
    M *m = rt_enter();
    int rc = become_known(m);
    if (rc == 0) {
        _Atomic uint8_t *bits = &g->x->bits;
        int was = on ? atomic_fetch_or(bits, KNOWN_MASKED) : atomic_fetch_and(bits, ~KNOWN_MASKED);
        rc = (was & KNOWN_MASKED) != 0;
    }
    rt_leave(m);
    return rc;
}
