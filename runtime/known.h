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
    uint8_t bits;                /* shard's lock: known.c */
    bool listed;                 /* (m) */
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

/* The commit of a known g's park calls these two, in turn, before g can be found by a waker that it
 * has not begun to compete with; the timer, if any, is armed in between. */
Lock *known_lock(M *m, const G *g);
int known_parks(
    G *g); /* 0, or -ECANCELED: it is not to wait, and is claimed for that if it could be */
/* (m) It has been woken. Waits until the commit is done with it. */
void known_wakes(M *m, const G *g);

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

/* Cancel it as weft_cancel() does. -ESRCH: it has ended; -ENOMEM: there was no memory to list it. m may be foreign
 * or without a P; no lock of RANK_FD or above is held. */
int cancel_coroutine(M *m, uint64_t id);

/* keys.c */
void keys_end(G *g); /* call the destructors: on g, where they may park; or when the run is over */

#endif
