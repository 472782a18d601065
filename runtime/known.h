/* SPDX-License-Identifier: MIT
 *
 * known.h: coroutines whose id somebody may have; what only some coroutines need. Part of rt.h. */
#ifndef WEFT_KNOWN_H
#define WEFT_KNOWN_H

enum { NAME_MAX_LEN = 31 };

/* What most coroutines do without: a G is small. g->x, from when it is first needed to the end. */
typedef struct Extra {
    struct Extra *next;          /* shard's lock: others of its bucket */
    G *g;                        /* (c) once listed */
    uint64_t id;                 /* (c) once listed */
    _Atomic uint64_t parked;     /* (a) the last wait that may be cancelled: known.c */
    _Atomic uint8_t bits;        /* (a) KNOWN_* */
    bool listed;                 /* (m) */
    bool ends;                   /* (m) it is not listed any more */
    uint8_t rounds;              /* (m) of destructors: keys.c */
    char name[NAME_MAX_LEN + 1]; /* coro_lock_all(); "": none */
    uint32_t nvalues;            /* (m) */
    void **values;               /* (m) keys.c, by key */
    CtxCoro ctx;                 /* ctx.c: whose end is its own */
} Extra;

/* (m), or who makes g: g's, made if it has none. NULL: no memory. */
Extra *extra_of(G *g);
void extra_free(G *g); /* it has ended; or the run has */

static inline const char *name_of(const G *g)
{
    const Extra *x = g->x;
    return x != NULL ? x->name : "";
}

/* Put g, which has an id and g->x, on the list: from now on it can be joined and cancelled. (m), or who makes g. */
void known_add(M *m, G *g);
void known_end(M *m, G *g); /* (m) g, listed, ends: off the list; who joins it goes on */
void known_reset(void);     /* end of a run */

enum { KNOWN_CANCELLED = 1, KNOWN_MASKED = 2 };

bool known_claim(G *g, uint64_t serial); /* it is cancelled, and in this wait: claim it for that */

/* The commit of a known g's park, before it lets go of the queue's lock: g may be cancelled from now on.
 * True: it has been, and is claimed for that. */
static inline bool known_parks(G *g)
{
    Extra *x = g->x;
    uint64_t serial = get(&g->claim) >> 1;
    set_rel(&x->parked, serial);               /* and its context, to who cancels it */
    atomic_signal_fence(memory_order_seq_cst); /* pairs with the membarrier in cancel_extra() */
    return unlikely(get(&x->bits) & KNOWN_CANCELLED) && known_claim(g, serial);
}

/* A wait without a queue: the commit holds this lock until it is done with g, and g, awake, takes it once. */
Lock *known_lock(M *m, const G *g);

/* Those who could grant g what it waits for must win wait_claim(): it has a deadline, or may be cancelled. */
static inline bool wait_contested(const G *g, int64_t deadline)
{
    return deadline != 0 || unlikely(g->flags & G_KNOWN);
}

/* (m) From defer to resume parks are not cancelled. Does not nest. */
static inline uint16_t known_defer(G *g)
{
    uint16_t was = g->flags & G_KNOWN;
    g->flags &= (uint16_t)~G_KNOWN;
    return was;
}
static inline void known_resume(G *g, uint16_t was)
{
    g->flags |= was;
}

/* Cancel it as weft_cancel() does. -ESRCH: it has ended; -ENOMEM: there was no memory to list it. m may be foreign;
 * no lock of RANK_KNOWN or above is held. */
int cancel_coroutine(M *m, uint64_t id);

/* keys.c */
void keys_end(G *g); /* call the destructors: on g, where they may park; or when the run is over */

#endif
