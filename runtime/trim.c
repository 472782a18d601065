/* SPDX-License-Identifier: MIT
 *
 * trim.c: the memory of free stacks goes back to the system.
 *
 * Idle threads call stack_trim() while stack_trim_pending(). Slots that have
 * been free for a second are given back, but for the 16 in the oldest chunks,
 * which will be the next to be used. A call is short (half a millisecond), as the
 * thread may be the one that timers and descriptors wake; one that has nothing
 * better to do calls again while the answer is true.
 *
 * Pages alone would be half of it: under a big slot's one page lies a page
 * table as large. So runs of neighbouring slots are mapped anew, which frees
 * pages, page tables and guards in two system calls; a peak of a million
 * coroutines becomes a few hundred runs. Only runs of small slots too short to
 * fill page tables lose their pages only, and keep their guards.
 *
 * The system calls are made without the lock. The slots are off the free lists
 * meanwhile and hold credits, so that no coroutine's promise is broken: see
 * Credits in slots.c.
 */
#include "copystack.h"

enum {
    KEEP_WARM = 16,
    TRIM_AGE = 60,   /* of slots_clock(): a second */
    TRIM_BATCH = 64, /* slots; some 8 us each: the page and its page table */
};
static const int64_t TRIM_SLICE = 300 * 1000; /* ns after which a call is content */
static const size_t WHOLE = 4 * 1024 * 1024;  /* a run as long as this fills page tables */

/* Which slots of a chunk are being given back. */
typedef struct {
    uint64_t bits[CHUNK_SLOTS_MAX / 64];
    uint32_t end; /* beyond the highest */
} TrimSet;

bool stack_trim_pending(void)
{
    return window_trim_pending() || get(&slot_arena.warm) > KEEP_WARM;
}

static bool slot_is_old(const Slot *s, int64_t now)
{
    return slots_clock(now) - s->freed >= TRIM_AGE; /* modulo 2^32 */
}

/* Take up to max old slots off c's list, which has the newest first. */
static Slot *trim_take(Chunk *c, uint32_t max, int64_t now, TrimSet *set)
{
    Slot **at = &c->warm, *list = NULL;

    memset(set, 0, sizeof(*set));
    while (*at != NULL && !slot_is_old(*at, now))
        at = &(*at)->link;
    for (; *at != NULL && max > 0; max--) {
        Slot *s = *at;
        uint32_t i = slot_index(s);
        *at = s->link;
        s->link = list;
        list = s;
        c->nfree--;
        slots_count_warm(c, -1);
        set->bits[i / 64] |= (uint64_t)1 << i % 64;
        set->end = i >= set->end ? i + 1 : set->end;
    }
    return list;
}

static bool trim_has(const TrimSet *set, uint32_t i)
{
    return i < set->end && (set->bits[i / 64] >> i % 64 & 1);
}

/* Slots [i, end) of c are ours. */
static void trim_run(Chunk *c, uint32_t i, uint32_t end)
{
    char *base = c->base + i * c->stride;
    size_t size = (end - i) * c->stride;
    int guards = 0;

    if ((c->limit < SLOT_SMALL && size < WHOLE) || sys_discard(base, size) != 0) {
        sys_decommit(base, size);
        return;
    }
    if (i == 0)
        slots_seal(c);
    for (; i < end; i++) {
        guards += c->slots[i].guard != 0;
        c->slots[i].guard = 0;
    }
    if (guards > 0 && sys_guard_kind() == SYS_GUARD_VMA)
        slots_guard_quota(-guards);
}

/* Some old slots of c; false: there are none. The lock is let go in between. */
static bool trim_chunk(Chunk *c, int64_t now)
{
    SlotClass *k = &slot_arena.cls[c->cls];
    uint32_t warm = get(&slot_arena.warm), spare = k->total - k->credits, n = 0;
    TrimSet set;

    if (c->nwarm == 0 || warm <= KEEP_WARM || spare == 0)
        return false;
    uint32_t max = warm - KEEP_WARM < spare ? warm - KEEP_WARM : spare;
    Slot *list = trim_take(c, max < TRIM_BATCH ? max : TRIM_BATCH, now, &set);
    for (Slot *s = list; s != NULL; s = s->link, n++)
        s->freed = 0;
    if (n == 0)
        return false;
    k->credits += n;
    slots_unlock();
    for (uint32_t i = 0, end; i < set.end; i = end) {
        for (end = i + 1; trim_has(&set, i) && trim_has(&set, end);)
            end++;
        if (trim_has(&set, i))
            trim_run(c, i, end);
    }
    slots_lock();
    k->credits -= n;
    for (Slot *s = list, *next; s != NULL; s = next) {
        next = s->link;
        slots_chunk_put(c, s);
    }
    return true;
}

bool stack_trim(int64_t now)
{
    bool did = false;

    if (window_trim_pending() && window_trim(now))
        block_trim();
    if (get(&slot_arena.warm) <= KEEP_WARM)
        return false;
    int64_t until = sys_now() + TRIM_SLICE;
    slots_lock();
    for (uint32_t i = get(&slot_arena.nchunks); i > 0; i--)
        while (trim_chunk(get(&slot_arena.chunks[i - 1]), now)) {
            did = true;
            if (sys_now() > until)
                goto out;
        }
out:
    slots_unlock();
    return did;
}
