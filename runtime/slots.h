/* SPDX-License-Identifier: MIT
 *
 * slots.h: between slots.c (the arena: which slots exist, which are free), trim.c
 * (their memory goes back) and
 * stack.c (what the runtime asks for: per-P caches, guards, faults).
 */
#ifndef WEFT_SLOTS_H
#define WEFT_SLOTS_H

#include "rt.h"

/* Class 0 is the configured default; the others are for stack_max of attributes. */
enum { STACK_CLASSES = 5, CHUNK_SLOTS_MAX = 16384, CHUNKS_MAX = 8192 };
#define SLOT_SMALL ((size_t)1 << 20) /* slots with a lower limit are packed, see slots.c */

typedef struct Chunk Chunk;

/* A slot, described outside of it so that a free one costs no page. Owned by
 * whoever took it: the arena while it is free, a P's cache, a G. Only the owner
 * writes; a fault handler does so as the G that it interrupted. */
struct Slot {
    Slot *link;     /* owner: list of free slots */
    Chunk *chunk;   /* (c) */
    char *hi;       /* (c) where the stack starts */
    uint32_t guard; /* pages from the slot's end down to the guard's low edge; 0: no guard */
    uint32_t freed; /* when it came back to the arena, by slots_clock(); 0: it has no pages */
};

/* Neighbouring slots from one mapping. Never unmapped before stack_fini(). */
struct Chunk {
    char *base, *end;      /* (c) */
    size_t stride;         /* (c) bytes from slot to slot */
    size_t limit;          /* (c) bytes a stack may grow to */
    size_t guard_size;     /* (c) */
    Chunk *next;           /* (l) of its class, in the order of making */
    Slot *warm, *cold;     /* (l) free slots: newest first; without pages */
    uint32_t order;        /* (c) place in its class */
    uint32_t nslots;       /* (c) */
    uint32_t fresh;        /* (l) slots from here on have never been used, or are as good as that */
    uint32_t nfree, nwarm; /* (l) nfree counts fresh ones too */
    uint8_t cls;           /* (c) */
    Slot slots[];
};

typedef struct {
    size_t limit;        /* (l) of the next chunk; sinks for class 0 */
    size_t bytes;        /* (l) of addresses, all chunks */
    uint32_t total;      /* (l) slots */
    uint32_t credits;    /* (l) given out; <= total */
    uint32_t nchunks;    /* (l) */
    uint32_t next_count; /* (l) slots of the next chunk */
    Chunk *first, *last; /* (l) */
    Chunk *avail;        /* (l) no chunk before this one has a free slot */
} SlotClass;

struct SlotArena {
    Lock lock;
    _Atomic uint32_t credit_max;  /* (a) most credits a P hoards; sinks when slots run out */
    SlotClass cls[STACK_CLASSES]; /* (l) */
    size_t address_limit;         /* (c) */
    _Atomic long guards;          /* (a) written under (l) */
    long guards_max;              /* (c) */
    uint64_t out, out_bytes;      /* (l) slots with Gs and in caches */
    _Atomic uint32_t
        warm;        /* (a) free slots that may hold pages; written under (l), a hint for others */
    bool said_small; /* (l) */
    _Atomic uint32_t nchunks;            /* (a) release after the entry */
    _Atomic(Chunk *) chunks[CHUNKS_MAX]; /* (a) */
};
extern struct SlotArena slot_arena;

static inline void slots_lock(void)
{
    lock_acquire(NULL, &slot_arena.lock, RANK_ARENA);
}

static inline void slots_unlock(void)
{
    lock_release(&slot_arena.lock);
}

static inline void slots_count_warm(Chunk *c, int n)
{
    c->nwarm += (uint32_t)n;
    bump(&slot_arena.warm, (uint32_t)n);
}

/* 17 ms; wraps after two years; never 0. */
static inline uint32_t slots_clock(int64_t now)
{
    return (uint32_t)(now >> 24) | 1;
}

/* Between a stack and whatever lies above: for valgrind a shorter step of the stack pointer is growth (annotate.h). */
static inline size_t slots_apart(void)
{
    return sched.valgrind ? (size_t)2 << 20 : 0;
}

int slots_init(size_t stack_max);
void slots_fini(void);
int slots_class(size_t stack_max);
uint32_t slots_credit(int cls,
                      uint32_t want); /* up to want credits, at least 1; 0: none to be had */
void slots_uncredit(int cls, uint32_t n);
Slot *
slots_take(int cls,
           uint32_t n); /* a list of 1 to n: n - 1 credits at least are in the caller's hands */
void slots_give(Slot *list, int64_t now); /* back, to be kept warm for a second from now */
void slots_chunk_put(Chunk *c, Slot *s);  /* onto a free list; (l) held */
bool slots_guard_quota(int n); /* n > 0: may n more guards be set? n < 0: so many are gone */
void slots_say_unguarded(void);
void slots_seal(Chunk *c); /* c is as fresh from sys_reserve at its low end */

static inline uint32_t slot_index(const Slot *s)
{
    return (uint32_t)(s - s->chunk->slots);
}

static inline char *slot_end(const Slot *s)
{
    return s->chunk->base + ((size_t)slot_index(s) + 1) * s->chunk->stride;
}

#endif
