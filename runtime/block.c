/* SPDX-License-Identifier: MIT
 *
 * block.c: the blocks that hold the stacks of parked coroutines.
 *
 * From jemalloc when the program has it, as in alloc.c: an arena of their own, so that a million coroutines
 * that end give whole pages back, and an explicit cache for each P, since it is the P that is exclusive here, not the
 * thread. Nothing else is allocated in this arena, and never outside the runtime, where a coroutine is not stopped. So
 * nobody waits for its locks but for as long as another allocates; only where an arena or a cache is made, or without
 * jemalloc, may one have to wait for a coroutine that stands still, until the monitor has lent that a P (monitor.c).
 *
 * Sizes are jemalloc's classes, so that what it would round up is used.
 */
#include "copystack.h"
#include "jemalloc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { BLOCK_LEAST = 128, DECAY_MS = 1000 };
static _Atomic int block_arena = -1; /* its number; -1: none yet; -2: not to be had */
static _Atomic bool block_freed;     /* since block_trim() */

static bool block_je(void)
{
    return mallocx != NULL && sdallocx != NULL && nallocx != NULL && mallctl != NULL &&
           !sched.valgrind;
}

/* Two Ps may both make one: the loser's stays empty. */
static int block_arena_make(void)
{
    unsigned a;
    size_t len = sizeof(a);
    int none = -1, made = mallctl("arenas.create", &a, &len, NULL, 0) == 0 ? (int)a : -2;
    if (!atomic_compare_exchange_strong(&block_arena, &none, made))
        return none;
    char name[48];
    ssize_t ms = DECAY_MS;
    snprintf(name, sizeof(name), "arena.%d.dirty_decay_ms", made);
    (void)mallctl(name, NULL, NULL, &ms, sizeof(ms));
    return made;
}

/* The arena's part of the flags and the P's cache. */
static int block_flags(P *p)
{
    int arena = get(&block_arena);
    if (unlikely(arena == -1))
        arena = block_arena_make();
    int flags = arena >= 0 ? JE_ARENA(arena) : 0;
    if (p == NULL)
        return flags | JE_NO_TCACHE;
    if (unlikely(p->block_cache == 0)) {
        unsigned t;
        size_t len = sizeof(t);
        p->block_cache =
            mallctl("tcache.create", &t, &len, NULL, 0) == 0 ? JE_TCACHE((int)t) : JE_NO_TCACHE;
    }
    return flags | p->block_cache;
}

void *block_alloc(P *p, size_t want, size_t *size)
{
    int e = errno;
    void *block;
    if (want < BLOCK_LEAST)
        want = BLOCK_LEAST;
    if (block_je()) {
        want = nallocx(want, 0);
        block = mallocx(want, block_flags(p));
    } else {
        block = malloc(want);
    }
    errno = e;
    if (block == NULL)
        return NULL;
    *size = want;
    if (p != NULL)
        bump(&p->copied_bytes, want);
    return block;
}

void block_free(P *p, void *block, size_t size)
{
    if (size == 0)
        return;
    int e = errno;
    if (block_je() && get(&block_arena) >= 0 && !get(&block_freed))
        set(&block_freed, true);
    if (block_je())
        sdallocx(block, size, p != NULL && p->block_cache != 0 ? p->block_cache : JE_NO_TCACHE);
    else
        free(block);
    errno = e;
    if (p != NULL)
        bump(&p->copied_bytes, -size);
}

void block_flush(P *p)
{
    unsigned t = (unsigned)(p->block_cache >> 8) - 2;
    if (p->block_cache != 0 && p->block_cache != JE_NO_TCACHE)
        (void)mallctl("tcache.destroy", NULL, NULL, &t, sizeof(t));
    p->block_cache = 0;
}

uint64_t block_resident(void)
{
    char name[48];
    uint64_t epoch = 1;
    size_t len = sizeof(epoch), bytes = 0, n = sizeof(bytes);
    int arena = get(&block_arena);
    if (!block_je() || arena < 0)
        return 0;
    (void)mallctl("epoch", &epoch, &len, &epoch, len);
    snprintf(name, sizeof(name), "stats.arenas.%d.resident", arena);
    return mallctl(name, &bytes, &n, NULL, 0) == 0 ? bytes : 0;
}

/* A coroutine: jemalloc's lock for this may be held by another that stands still, so whoever calls must be
 * able to wait like any user. */
static void decay(void *arg)
{
    char name[32];
    (void)arg;
    snprintf(name, sizeof(name), "arena.%d.decay", get(&block_arena));
    (void)mallctl(name, NULL, NULL, NULL, 0);
}

void block_trim(void)
{
    if (get(&block_freed) && atomic_exchange(&block_freed, false))
        (void)coro_go_own(decay, NULL, "decay");
}
