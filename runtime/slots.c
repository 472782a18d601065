/* SPDX-License-Identifier: MIT
 *
 * slots.c: the arena of private stacks. See stack.c for what a slot looks like.
 *
 * Slots come in chunks, one mapping each: 64 slots at first, twice as many each
 * time up to 256 GiB of addresses, so that a million need some 300 mappings
 * and stack_owns() a short scan.
 *
 * Credits. A spawn takes no slot, only the promise of one: slots exist for
 * coroutines that run, and a thousand short ones pass through one hot stack.
 * Per class, with T slots, C credits given out, u slots bound to coroutines,
 * and for each P c credits in hand and n slots in its cache:
 *      T >= C                     (slots_credit makes slots first)
 *      sum of n <= sum of c       (stack.c: no slot is cached but against a credit)
 *      C = sum of c + credits of coroutines that are alive
 * so the arena has T - u - sum(n) >= C - sum(c) - u free slots: as many as there
 * are live coroutines without one. slots_take() therefore always finds one for a
 * coroutine that has a credit. Trimming, which takes slots away for a while,
 * takes credits for them first.
 *
 * Which slot. Of the oldest chunk that has any, the one freed last: its pages
 * are warm, and the younger chunks run empty and are given back in long runs
 * (trim.c).
 *
 * Too little address space (ulimit -v, vm.overcommit_memory=2). The default
 * class goes down from 64 MiB to 8 MiB, 1 MiB, 256 KiB a slot, and this is said
 * once; a chunk that would take more than a sixteenth of what the process may
 * have counts as not to be had. Slots beyond 1 MiB may take a quarter of it, those of
 * 1 MiB fill it to the half: under a limit of 64 GB a hundred thousand coroutines fit.
 * Sizes that attributes ask for are kept or refused.
 *
 * Locking: all under slot_arena.lock, RANK_ARENA, taken without an M (idle threads
 * trim without a P), and never held over a system call save those that make a chunk.
 * chunks[] is append-only during a run: the entry is stored (release) before
 * the count, so stack_owns() may read it in a signal handler.
 */
#include "slots.h"

enum {
    CHUNK_FIRST = 64,
    CHUNK_LEAST = 1,
    CREDITS_PLENTY = 512, /* a batch of so many spawns and exits stays on its P */
    CREDITS_SCARCE = 32,  /* at least twice what a P's cache holds */
};

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)
static const size_t MAX_CHUNK = 256 * 1024 * MIB;

struct SlotArena slot_arena;

int slots_init(size_t stack_max)
{
    static const size_t limits[STACK_CLASSES] = {0, 64 * KIB, 256 * KIB, 4 * MIB, 64 * MIB};
    size_t page = sys_page();

    if (stack_max == 0) {
        stack_max = limits[STACK_CLASSES - 1];
#if defined(WEFT_TSAN) || defined(WEFT_ASAN)
        stack_max = 256 * KIB; /* TSan's application range holds some 20,000 big ones only */
#endif
    }
    if (stack_max < 16 * KIB || stack_max > limits[STACK_CLASSES - 1])
        return -EINVAL;
    memset(&slot_arena, 0, sizeof(slot_arena));
    for (int i = 0; i < STACK_CLASSES; i++) {
        slot_arena.cls[i].limit = i == 0 ? (stack_max + page - 1) & ~(page - 1) : limits[i];
        slot_arena.cls[i].next_count = CHUNK_FIRST;
    }
    set(&slot_arena.credit_max, CREDITS_PLENTY);
    slot_arena.address_limit = sys_address_limit();
    slot_arena.guards_max = sys_guard_max();
    if (sched.guards_max > 0 && sched.guards_max < slot_arena.guards_max)
        slot_arena.guards_max = sched.guards_max;
    return 0;
}

/* No lock: nothing runs any more. */
void slots_fini(void)
{
    uint32_t n = get(&slot_arena.nchunks);

    set(&slot_arena.nchunks, 0);
    for (uint32_t i = 0; i < n; i++) {
        Chunk *c = get(&slot_arena.chunks[i]);
        sys_release(c->base, (size_t)(c->end - c->base));
        rt_free(c);
    }
    memset(slot_arena.cls, 0, sizeof(slot_arena.cls));
    slot_arena.out = slot_arena.out_bytes = 0;
    set(&slot_arena.warm, 0);
}

/* The smallest that is large enough; the default class when that is as good,
 * since its slots are cached. Sizes of classes beyond 0 never change. */
int slots_class(size_t stack_max)
{
    const SlotClass *c = slot_arena.cls;
    int best = -EINVAL;

    if (stack_max == 0)
        return 0;
    if (stack_max < 16 * KIB || stack_max > 64 * MIB)
        return -EINVAL;
    for (int i = 1; i < STACK_CLASSES && best < 0; i++)
        if (c[i].limit >= stack_max)
            best = i;
    slots_lock();
    if (c[0].limit >= stack_max && c[0].limit <= c[best].limit)
        best = 0;
    slots_unlock();
    return best;
}

/* ---- chunks ------------------------------------------------------------------ */

/* Where the stacks of neighbouring slots start, below the slot's end. Were all
 * at the same place, tops would share a few sets of the caches and, big slots
 * being powers of two apart, of the TLB (12 entries for all of them). */
static size_t slots_colour(uint32_t index, bool big)
{
    return (index % 16) * CACHE_LINE + (big ? (index / 16 + index) % 32 * sys_page() : 0);
}

static bool slots_big(size_t limit)
{
    return limit >= SLOT_SMALL || sched.valgrind;
}

/* Big: 2 MiB aligned, so that the first 2 MiB below the end share one page
 * table page; the colours and the guard come on top of the limit. */
static size_t slots_stride(size_t limit)
{
    size_t page = sys_page();

    if (!slots_big(limit))
        return limit + 2 * page; /* a page for the guard, less than one for the colour */
    return (limit + slots_apart() + 64 * KIB + 33 * page + 2 * MIB - 1) & ~(2 * MIB - 1);
}

/* A stack without a guard that runs through all those below it is stopped at the
 * end of the chunk at least. That page is below the limit of the first slot. */
void slots_seal(Chunk *c)
{
    if (sys_guard_kind() == SYS_GUARD_VMA)
        sys_guard_set(c->base, sys_page());
}

static Chunk *chunk_make(int cls, size_t limit, uint32_t count)
{
    bool big = slots_big(limit);
    size_t stride = slots_stride(limit), size = stride * count + slots_apart();

    if (size > slot_arena.address_limit / 16 || get(&slot_arena.nchunks) == CHUNKS_MAX)
        return NULL;
    Chunk *c = rt_alloc_aligned(CACHE_LINE, sizeof(*c) + count * sizeof(Slot));
    if (c == NULL)
        return NULL;
    c->base = sys_reserve(size, big ? 2 * MIB : sys_page());
    if (c->base == NULL) {
        rt_free(c);
        return NULL;
    }
    c->end = c->base + size;
    c->stride = stride;
    c->limit = limit;
    c->guard_size = big ? 64 * KIB : sys_page();
    c->nslots = c->nfree = count;
    c->cls = (uint8_t)cls;
    slots_seal(c);
    for (uint32_t i = 0; i < count; i++) /* guard 0: set at the first use */
        c->slots[i] = (Slot){.chunk = c, .hi = c->base + (i + 1) * stride - slots_colour(i, big)};
    return c;
}

static void chunk_add(SlotClass *k, Chunk *c)
{
    uint32_t n = get(&slot_arena.nchunks);

    c->order = k->nchunks++;
    if (k->last != NULL)
        k->last->next = c;
    else
        k->first = c;
    k->last = c;
    if (k->avail == NULL)
        k->avail = c;
    k->total += c->nslots;
    k->bytes += (size_t)(c->end - c->base);
    if (c->stride * k->next_count * 2 <= MAX_CHUNK && k->next_count < CHUNK_SLOTS_MAX)
        k->next_count *= 2;
    set_rel(&slot_arena.chunks[n], c);   /* pairs with stack_owns() */
    set_rel(&slot_arena.nchunks, n + 1); /* the same */
}

/* May the default class have another chunk of slots as big as that? Few big ones, lest
 * there be none left for many. */
static bool slots_fair(const SlotClass *k, size_t limit, uint32_t count)
{
    size_t most = slot_arena.address_limit;

    if (most == SIZE_MAX || limit <= 256 * KIB)
        return true;
    return k->bytes + slots_stride(limit) * count <= (limit > MIB ? most / 4 : most / 2);
}

/* One more chunk: as many slots as planned, else fewer; the default class tries
 * smaller slots before it takes fewer than 64 of them. */
static bool slots_grow(int cls)
{
    SlotClass *k = &slot_arena.cls[cls];
    size_t limit = k->limit;
    uint32_t count = k->next_count;
    Chunk *c;

    assert_held(&slot_arena.lock);
    while ((cls == 0 && !slots_fair(k, limit, count)) ||
           (c = chunk_make(cls, limit, count)) == NULL) {
        if (count > CHUNK_FIRST)
            count = CHUNK_FIRST;
        else if (cls == 0 && limit > 256 * KIB)
            limit = limit > 8 * MIB ? 8 * MIB : limit > MIB ? MIB : 256 * KIB;
        else if (count > CHUNK_LEAST)
            count /= 2;
        else
            goto none;
        k->next_count = count;
    }
    bool say = limit < k->limit && !slot_arena.said_small;
    if (say) {
        slot_arena.said_small = true;
        warn(
            "little address space (ulimit -v, vm.overcommit_memory): stacks are limited to %zu KiB",
            limit / KIB);
    }
    k->limit = limit;
    chunk_add(k, c);
    return true;
none:
    set(&slot_arena.credit_max, CREDITS_SCARCE); /* what one P does not need another may */
    return false;
}

/* ---- credits ------------------------------------------------------------------ */

uint32_t slots_credit(int cls, uint32_t want)
{
    SlotClass *k = &slot_arena.cls[cls];

    slots_lock();
    while (k->total - k->credits < want && slots_grow(cls))
        ;
    if (k->total - k->credits < want)
        want = k->total - k->credits;
    k->credits += want;
    slots_unlock();
    return want;
}

void slots_uncredit(int cls, uint32_t n)
{
    slots_lock();
    rt_assert(slot_arena.cls[cls].credits >= n);
    slot_arena.cls[cls].credits -= n;
    slots_unlock();
}

/* ---- free slots ------------------------------------------------------------------ */

static Slot *chunk_take(Chunk *c)
{
    Slot *s;

    if (c->nfree == 0)
        return NULL;
    c->nfree--;
    if (c->warm != NULL) {
        s = c->warm;
        c->warm = s->link;
        slots_count_warm(c, -1);
    } else if (c->cold != NULL) {
        s = c->cold;
        c->cold = s->link;
    } else {
        s = &c->slots[c->fresh++];
    }
    return s;
}

void slots_chunk_put(Chunk *c, Slot *s)
{
    SlotClass *k = &slot_arena.cls[c->cls];
    Slot **list = s->freed != 0 ? &c->warm : &c->cold;

    s->link = *list;
    *list = s;
    c->nfree++;
    if (s->freed != 0)
        slots_count_warm(c, 1);
    if (k->avail == NULL || c->order < k->avail->order)
        k->avail = c;
}

Slot *slots_take(int cls, uint32_t n)
{
    SlotClass *k = &slot_arena.cls[cls];
    Slot *list = NULL;

    slots_lock();
    while (n > 0 && k->avail != NULL) {
        Slot *s = chunk_take(k->avail);
        if (s == NULL) {
            k->avail = k->avail->next;
            continue;
        }
        s->link = list;
        list = s;
        slot_arena.out++;
        slot_arena.out_bytes += s->chunk->stride;
        n--;
    }
    slots_unlock();
    return list;
}

void slots_give(Slot *list, int64_t now)
{
    slots_lock();
    for (Slot *s = list, *next; s != NULL; s = next) {
        next = s->link;
        s->freed = slots_clock(now);
        slot_arena.out--;
        slot_arena.out_bytes -= s->chunk->stride;
        slots_chunk_put(s->chunk, s);
    }
    slots_unlock();
}

void stack_counts(uint64_t *slots, uint64_t *bytes)
{
    slots_lock();
    *slots = slot_arena.out;
    *bytes = slot_arena.out_bytes;
    slots_unlock();
}

bool stack_try_counts(uint64_t *slots, uint64_t *bytes)
{
    if (!lock_try(&slot_arena.lock, RANK_ARENA))
        return false;
    *slots = slot_arena.out;
    *bytes = slot_arena.out_bytes;
    slots_unlock();
    return true;
}

bool stack_owns(const void *addr)
{
    uint32_t n = get_acq(&slot_arena.nchunks); /* pairs with chunk_add() */

    for (uint32_t i = 0; i < n; i++) {
        const Chunk *c = get_acq(&slot_arena.chunks[i]); /* the same */
        if ((const char *)addr >= c->base && (const char *)addr < c->end)
            return true;
    }
    return false;
}

/* Of PROT_NONE guards only so many fit into the process. Stacks without one work,
 * but an overflow is noticed late (stack.c), so this is said. */
void slots_say_unguarded(void)
{
    static _Atomic bool said; /* by this process, in whatever run */

    if (!get(&said) && !atomic_exchange(&said, true))
        warn("stacks from now on have no guard, their depth is checked at times: raise the sysctl "
             "vm.max_map_count (%ld of them have one)",
             get(&slot_arena.guards));
}

bool slots_guard_quota(int n)
{
    if (n > 0 && get(&slot_arena.guards) >= slot_arena.guards_max)
        return false; /* a hint: no lock at each first run */
    slots_lock();
    bool ok = n < 0 || get(&slot_arena.guards) < slot_arena.guards_max;
    if (ok)
        set(&slot_arena.guards, get(&slot_arena.guards) + n);
    slots_unlock();
    return ok;
}
