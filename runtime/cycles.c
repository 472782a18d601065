/* SPDX-License-Identifier: MIT
 *
 * cycles.c: coroutines that wait in a circle for locks of each other: WEFT_DEBUG=deadlock.
 *
 * Two tables, written by who locks and who waits, read by one thread (census.c) now and then:
 *
 *   held    lock -> who has it, or reads it        waits   who -> the lock it waits for
 *
 * A cycle in the graph of both is a deadlock, as long as nobody outside of it unlocks: a mutex waits
 * for one owner, a reader for the writer, a writer for all readers. A wait with a deadline is not
 * noted: it ends by itself. Any coroutine may unlock, as in Go: so "has locked" is all that is known
 * of an owner, and all the report says.
 *
 * How an owner becomes known although locks are taken in line. A mutex (rwmutex) is locked and
 * unlocked by one swap only while its word has READY, and {0} has not: the first lock goes through
 * the function, which sets READY, except in a run that watches (sched.quick). There it stays clear,
 * every swap in line fails, and every lock and unlock comes through the functions, which note it.
 * The way in line pays nothing for that: the constants that it compares with are other ones. It
 * starts with the second lock of an object in a run. An object that got READY in an earlier run of
 * the process loses it when somebody waits for it.
 *   Rejected: noting the owner once somebody waits (a mutex that was never contended is locked in
 * line up to the moment of the deadlock: just those that matter would be missed); a flag tested in
 * line, or an expected value read from an exported variable (a load in every lock, and data in the
 * ABI); the owner in the object (no room in 8 bytes, and who "I" am costs three loads in line);
 * a list of locks in each G (an unlock by somebody else would have to find whose list it is in).
 *
 *   Cost, by callgrind, of a lock and an unlock through the functions, in instructions: mutex 30 as before,
 * 196 watched; rlock and runlock 35 as before, 238; lock and unlock for writing 99 (90 before), 335. A watched
 * pair has five locked instructions instead of two. A round reads 2 MiB, twice a second, and only while
 * somebody waits for a lock.
 *
 * The tables are fixed: 1 MiB and 1.5 MiB that are touched only when the switch is on, no allocation,
 * no lock. An entry lies within WAYS of the place its key hashes to; where there is no room nothing is noted, and
 * a cycle through it is not found. So an rwmutex shows WAYS readers at most. A runlock by somebody
 * whose rlock is not noted has ended an unknown one's: then none of the lock's readers is known.
 *
 *   held: `key` is taken by a swap from 0, then `who` is stored; given back in the opposite
 * order. Of a mutex only the owner of the lock does either; of readers whoever turns `who` to 0.
 * A lock that was freed while it was locked leaves an entry: with another one for the same address
 * nothing is known of that lock.
 *   waits: `who` is taken by a swap, `lock` is stored last (release; pairs with the acquire in
 * wait_read()) and cleared first. `serial` counts the waits in that place: the same place, serial
 * and lock are the same wait.
 *
 * No false alarm. A round reads all waits, then the entries of the locks that they are for, and finds a
 * cycle. Then it reads these entries once more, and then the waits once more. The waits are the
 * same: so nobody of the cycle has locked or unlocked anything between the first look at the waits
 * and the last. An entry that was there twice was there all the time between, since only its owner,
 * who waits, could have made it anew. So at the moment between the two readings of the entries
 * every one of them waited for the next. And it has done so for PATIENCE (census.c), which leaves
 * time to those who unlock what others have locked. */
#include "cycles.h"

#include "census.h"
#include "report.h"

#include <unistd.h>

enum {
    LOCKS = 1 << 16, /* a power of two, as the next */
    WAITS = 1 << 15,
    WAYS = 16,
    NODES = 4096,  /* waits looked at in one round, of those that hold something */
    SHOWN = 16,    /* of one cycle */
    TOLD = 256,    /* cycles */
    OWNERS = 65536 /* bits */
};
static const uint64_t FOREIGN = UINT64_C(1) << 63, /* who: a thread's id, not a coroutine's */
    WRITES = UINT64_C(1) << 62;                    /* who, in held: of an rwmutex */

typedef struct {
    _Atomic uintptr_t key; /* address | HOLDS_READ; 0: free */
    _Atomic uint64_t who;  /* 0: not yet, or not any more */
} Held;

struct CycleWait {
    _Atomic uint64_t who; /* 0: free */
    _Atomic uint64_t serial;
    _Atomic uintptr_t lock; /* 0: not yet, or not any more */
    _Atomic(G *) g;
    _Atomic int64_t since;
    _Atomic uint32_t why; /* enum Reason */
};

static Held held[LOCKS];
static CycleWait waits[WAITS];
static _Atomic uint32_t waiting; /* entries in waits */

static uint64_t scatter(uint64_t x)
{
    return (x ^ x >> 29) * 0x9E3779B97F4A7C15u;
}

static Held *held_at(uintptr_t key, uint32_t way)
{
    uint64_t h = scatter(key & ~(uintptr_t)HOLDS_READ);
    return &held[((h >> 48) + way) % LOCKS];
}
_Static_assert(LOCKS == 1 << 16, "the hash gives an index");

static uint64_t cycles_self(void)
{
    M *m = arch_self();
    return m == NULL || m->foreign ? FOREIGN | (uint32_t)sys_tid() : m->g->id;
}

/* ---- what locks and unlocks say -------------------------------------------------------- */

void cycles_note(const void *lock, enum Holds how)
{
    uintptr_t key = (uintptr_t)lock | (how == HOLDS_READ ? HOLDS_READ : 0);
    uint64_t who = cycles_self();
    for (uint32_t way = 0; way < WAYS; way++) {
        Held *h = held_at(key, way);
        uintptr_t free = 0;
        if (how == HOLDS_WRITE) {
            if (get(&h->key) == key && get(&h->who) == who) {
                set(&h->who, who | WRITES);
                return;
            }
        } else if (get(&h->key) == 0 &&
                   atomic_compare_exchange_strong_explicit(
                       &h->key, &free, key, memory_order_relaxed, memory_order_relaxed)) {
            set_rel(&h->who, who); /* pairs with owners_of() */
            return;
        }
    }
}

static bool held_drop(Held *h, uint64_t who)
{
    if (!atomic_compare_exchange_strong_explicit(&h->who, &who, 0, memory_order_relaxed,
                                                 memory_order_relaxed))
        return false;
    set_rel(&h->key, 0); /* after who */
    return true;
}

static void forget_reader(uintptr_t key)
{
    uint64_t who = cycles_self();
    for (uint32_t way = 0; way < WAYS; way++) {
        Held *h = held_at(key, way);
        if (get(&h->key) == key && held_drop(h, who))
            return;
    }
    for (uint32_t way = 0; way < WAYS; way++) {
        Held *h = held_at(key, way);
        if (get(&h->key) == key && (who = get(&h->who)) != 0)
            (void)held_drop(h, who);
    }
}

void cycles_forget(const void *lock, enum Holds how)
{
    uintptr_t key = (uintptr_t)lock;
    if (how == HOLDS_READ) {
        forget_reader(key | HOLDS_READ);
        return;
    }
    for (uint32_t way = 0; way < WAYS; way++) {
        Held *h = held_at(key, way);
        if (get(&h->key) == key) {
            set(&h->who, 0);
            set_rel(&h->key, 0); /* after who */
            return;
        }
    }
}

CycleWait *cycles_note_wait(M *m, const void *lock, enum Reason why)
{
    uint64_t who = cycles_self();
    uint32_t at = (uint32_t)(scatter(who) >> 49);
    for (uint32_t way = 0; way < WAYS; way++) {
        CycleWait *w = &waits[(at + way) % WAITS];
        uint64_t free = 0;
        if (get(&w->who) != 0 ||
            !atomic_compare_exchange_strong_explicit(&w->who, &free, who, memory_order_acquire,
                                                     memory_order_relaxed))
            continue;
        bump(&w->serial, 1);
        set(&w->g, m->g);
        set(&w->since, sys_now());
        set(&w->why, (uint32_t)why);
        set_rel(&w->lock, (uintptr_t)lock); /* pairs with wait_read() */
        atomic_fetch_add(&waiting, 1);      /* before census_wake() looks whether it is needed */
        census_wake();
        return w;
    }
    return NULL;
}
_Static_assert(WAITS == 1 << (64 - 49), "the hash gives an index");

void cycles_forget_wait(CycleWait *w)
{
    set(&w->lock, 0);
    set_rel(&w->who, 0); /* pairs with the swap above */
    atomic_fetch_sub(&waiting, 1);
}

bool cycles_waiting(void)
{
    return atomic_load(&waiting) != 0;
}

/* ---- one round: what was seen ----------------------------------------------------------- */

typedef struct {
    CycleWait *wait;
    uint64_t who, serial;
    uintptr_t lock;
    int64_t since;
    G *g;
    enum Reason why;
    enum { NEW, ON_PATH, DONE } seen;
} Node;

typedef struct {
    uint64_t who[WAYS];
    uint32_t n, next; /* the next to follow */
} Owners;

static struct {
    _Atomic uint32_t busy;      /* 1: somebody looks; the rest is its */
    uint64_t owns[OWNERS / 64]; /* who, hashed: it has some lock */
    uint32_t n;
    Node node[NODES];
    uint16_t index[2 * NODES]; /* by who: place in node, plus 1 */
    uint32_t depth;
    uint16_t path[NODES]; /* places in node */
    Owners owners[NODES]; /* of the locks that those in path wait for */
    uint64_t told[TOLD];
    uint32_t ntold;
} look;

/* False: nobody waits there, or it changes just now. */
static bool wait_read(CycleWait *w, Node *n)
{
    uintptr_t lock = get_acq(&w->lock); /* pairs with cycles_note_wait() */
    *n = (Node){.wait = w,
                .who = get(&w->who),
                .serial = get(&w->serial),
                .lock = lock,
                .since = get(&w->since),
                .g = get(&w->g),
                .why = (enum Reason)get(&w->why)};
    atomic_thread_fence(memory_order_acquire); /* what was read is of one wait if these are */
    return lock != 0 && n->who != 0 && get(&w->lock) == lock && get(&w->serial) == n->serial;
}

static bool wait_same(const Node *n)
{
    Node now;
    return wait_read(n->wait, &now) && now.who == n->who && now.serial == n->serial &&
           now.lock == n->lock;
}

static void owners_of(const Node *n, Owners *o)
{
    bool readers = n->why == WHY_RWLOCK;
    uintptr_t key = n->lock | (readers ? HOLDS_READ : 0);
    o->n = o->next = 0;
    for (uint32_t way = 0; way < WAYS; way++) {
        Held *h = held_at(key, way);
        if (get(&h->key) != key)
            continue;
        uint64_t who = get_acq(&h->who);
        if (who != 0)
            o->who[o->n++] = who;
    }
    if (!readers && o->n > 1)
        o->n = 0;
}

static uint16_t *index_of(uint64_t who)
{
    uint32_t at = (uint32_t)(scatter(who) >> 51);
    while (look.index[at] != 0 && look.node[look.index[at] - 1].who != who)
        at = (at + 1) % (2 * NODES);
    return &look.index[at];
}
_Static_assert(2 * NODES == 1 << (64 - 51), "the hash gives an index");

static uint32_t owner_bit(uint64_t who)
{
    return (uint32_t)(scatter(who & ~WRITES) >> 48) % OWNERS;
}

/* Those that wait since before then and have something themselves: no others are in a cycle. */
static void gather(int64_t before)
{
    memset(look.owns, 0, sizeof look.owns);
    memset(look.index, 0, sizeof look.index);
    look.n = 0;
    for (uint32_t i = 0; i < LOCKS; i++) {
        uint64_t who = get(&held[i].who);
        uint32_t bit = owner_bit(who);
        if (who != 0)
            look.owns[bit / 64] |= UINT64_C(1) << bit % 64;
    }
    for (uint32_t i = 0; i < WAITS && look.n < NODES; i++) {
        Node *n = &look.node[look.n];
        if (get(&waits[i].who) == 0 || !wait_read(&waits[i], n) || n->since > before)
            continue;
        uint32_t bit = owner_bit(n->who);
        uint16_t *at = index_of(n->who);
        if (*at == 0 && look.owns[bit / 64] >> bit % 64 & 1)
            *at = (uint16_t)++look.n;
    }
}

/* ---- saying it --------------------------------------------------------------------------- */

typedef struct {
    const uint16_t *path;
    uint32_t len;
} Cycle;

static Node *cycle_node(const Cycle *c, uint32_t i)
{
    return &look.node[c->path[i % c->len]];
}

static void print_who(Out *o, const Node *n, const Entry *e)
{
    if (n->who & FOREIGN) {
        out_str(o, "thread ");
        out_dec(o, (uint32_t)n->who);
    } else {
        report_who(o, n->who, e->id == n->who ? e->name : NULL);
    }
}

/* An rwmutex shows in how it is waited for, or that its owner has said so. */
static const char *lock_kind(const Node *n)
{
    Owners o;
    owners_of(n, &o);
    return n->why != WHY_MUTEX || (o.n > 0 && o.who[0] & WRITES) ? "rwmutex " : "mutex ";
}

static void cycle_body(void *arg, const ArchContext *here)
{
    static Entry e[SHOWN + 1]; /* one report at a time */
    const Cycle *c = arg;
    uint32_t shown = c->len < SHOWN ? c->len : SHOWN;
    int64_t now = sys_now();
    Out o;
    (void)here;
    for (uint32_t i = 0; i <= shown; i++) {
        const Node *n = cycle_node(c, i);
        e[i] = (Entry){.count = 0};
        if (!(n->who & FOREIGN))
            report_note(&e[i], n->g);
    }
    out_open(&o, STDERR_FILENO);
    out_str(&o, "weft: deadlock: ");
    if (c->len > 1)
        out_dec(&o, c->len);
    out_str(&o, c->len > 1 ? " coroutines wait in a circle for locks of each other:\n"
                           : "a coroutine waits for a lock that it has itself:\n");
    for (uint32_t i = 0; i < shown; i++) {
        const Node *n = cycle_node(c, i);
        print_who(&o, n, &e[i]);
        out_str(&o, " [");
        out_str(&o, reason_name[n->why]);
        report_age(&o, now - n->since);
        out_str(&o, "] waits for ");
        out_str(&o, lock_kind(n));
        out_hex(&o, n->lock);
        out_str(&o, n->why == WHY_RWLOCK ? ", read-locked by " : ", locked by ");
        print_who(&o, cycle_node(c, i + 1), &e[i + 1]);
        out_str(&o, ":\n");
        if (e[i].id == n->who)
            report_where(&o, &e[i]);
    }
    if (shown < c->len) {
        out_str(&o, "and ");
        out_dec(&o, c->len - shown);
        out_str(&o, " more\n");
    }
    out_flush(&o);
}

/* ---- finding it -------------------------------------------------------------------------- */

static bool owned_by(const Node *n, uint64_t who)
{
    Owners o;
    owners_of(n, &o);
    for (uint32_t i = 0; i < o.n; i++)
        if ((o.who[i] & ~WRITES) == who)
            return true;
    return false;
}

/* All of it at one moment: see above. */
static bool cycle_holds(const Cycle *c)
{
    for (uint32_t i = 0; i < c->len; i++)
        if (!owned_by(cycle_node(c, i), cycle_node(c, i + 1)->who))
            return false;
    atomic_thread_fence(memory_order_acquire); /* the waits after the entries */
    for (uint32_t i = 0; i < c->len; i++)
        if (!wait_same(cycle_node(c, i)))
            return false;
    return true;
}

/* The same for the same waits, wherever the circle begins. */
static uint64_t cycle_name(const Cycle *c)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < c->len; i++) {
        const Node *n = cycle_node(c, i);
        sum += scatter(scatter(n->who) + n->serial);
    }
    return sum;
}

static void cycle_found(const Cycle *c)
{
    uint64_t name = cycle_name(c);
    for (uint32_t i = 0; i < look.ntold; i++)
        if (look.told[i] == name)
            return;
    if (look.ntold < TOLD && cycle_holds(c) && report_run(cycle_body, (void *)(uintptr_t)c))
        look.told[look.ntold++] = name;
}

static void push(uint32_t i)
{
    look.node[i].seen = ON_PATH;
    look.path[look.depth] = (uint16_t)i;
    owners_of(&look.node[i], &look.owners[look.depth++]);
}

/* A circle back to i, which is on the path. */
static void path_closes(uint32_t i)
{
    uint32_t from = look.depth;
    while (look.path[--from] != i)
        ;
    Cycle c = {&look.path[from], look.depth - from};
    cycle_found(&c);
}

/* Depth first, along the owners. */
static void search(uint32_t first)
{
    push(first);
    while (look.depth > 0) {
        Owners *o = &look.owners[look.depth - 1];
        if (o->next == o->n) {
            look.node[look.path[--look.depth]].seen = DONE;
            continue;
        }
        uint32_t i = *index_of(o->who[o->next++] & ~WRITES);
        if (i == 0 || look.node[i - 1].seen == DONE)
            continue;
        if (look.node[i - 1].seen == NEW)
            push(i - 1);
        else
            path_closes(i - 1);
    }
}

/* False: somebody else looks, for longer than that. */
static bool look_begin(int64_t until)
{
    uint32_t idle = 0;
    while (!atomic_compare_exchange_strong(&look.busy, &idle, 1)) {
        int64_t now = sys_now();
        if (now >= until)
            return false;
        sys_sleep_until(now + 1000000);
        idle = 0;
    }
    return true;
}

void cycles_look(int64_t patience)
{
    if (!look_begin(sys_now() + 1000000000))
        return;
    gather(sys_now() - patience);
    atomic_thread_fence(memory_order_acquire); /* the entries after the waits */
    for (uint32_t i = 0; i < look.n; i++)
        if (look.node[i].seen == NEW)
            search(i);
    set_rel(&look.busy, 0); /* pairs with the swap above */
}

void cycles_start(void)
{
    for (uint32_t i = 0; i < LOCKS; i++)
        if (get(&held[i].key) != 0) { /* memory that was not used yet need not be there */
            set(&held[i].who, 0);
            set(&held[i].key, 0);
        }
    for (uint32_t i = 0; i < WAITS; i++)
        if (get(&waits[i].who) != 0) {
            set(&waits[i].lock, 0);
            set(&waits[i].who, 0);
        }
    atomic_store(&waiting, 0);
    look.ntold = 0;
}
