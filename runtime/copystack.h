/* SPDX-License-Identifier: MIT
 *
 * copystack.h: between copystack.c (who may use a window, and what lies in it), window.c (where windows
 * are, and their memory) and block.c (where saved stacks lie).
 */
#ifndef WEFT_COPYSTACK_H
#define WEFT_COPYSTACK_H

#include "glist.h"
#include "slots.h"

/* A range of addresses that coroutines share for their stacks. */
struct Window {
    Lock lock; /* RANK_WINDOW */
    _Atomic(G *)
        bias;    /* (a) the resident, if it enters and leaves without the lock; written under it */
    G *resident; /* (l) whose stack lies here; NULL: nobody's */
    GList waiters;  /* (l) they could run, but for the window; some have none yet */
    uint32_t bound; /* (l) coroutines of this window */
    uint32_t calm;  /* (l) entries of the resident since it came */
    bool unseen;    /* (l) the bias was taken away, and there was no membarrier yet */
    bool free;      /* (l) nobody is bound to it */
    bool listed;    /* (l) on a list of free ones, or on the way to one or from one: free perhaps */
    _Atomic uint8_t age; /* (l) looks of window_trim() since it was last given to somebody */
    Window *link;        /* owner of the list of free ones */
    Chunk chunk; /* its addresses, as stack.c and dumps know them: one slot, last because of that */
};

static inline Slot *window_slot(Window *w)
{
    return &w->chunk.slots[0];
}

static inline Window *window_of(const G *g)
{
    return container_of(g->slot->chunk, Window, chunk);
}

enum { WINDOW_TRIMMED = 2 /* of age */, WINDOWS_MAX = 16384, BATCHES_MAX = 1024 };

/* Windows from one mapping. */
typedef struct {
    char *base, *end; /* (c) */
    size_t stride;    /* (c) */
    uint32_t first;   /* (c) id of the first */
} WindowBatch;

struct Windows {
    bool biased;                      /* (c) there is a membarrier */
    uint32_t cache;                   /* (c) free ones that a P keeps */
    _Atomic uint32_t n;               /* (a) that exist; release after the entry */
    _Atomic(Window *) w[WINDOWS_MAX]; /* (a) */
    Lock lock;                        /* RANK_WINDOW */
    uint32_t most;                    /* (l) */
    size_t limit;              /* (l) bytes a stack may grow to; sinks before the first is made */
    size_t bytes;              /* (l) of all batches */
    Window *free;              /* (l) */
    _Atomic uint32_t nfree;    /* (a) length of free; written under (l) */
    _Atomic uint32_t nbatches; /* (a) release after the entry */
    WindowBatch batch[BATCHES_MAX]; /* (a) */
    _Atomic bool used;              /* (a) some may have something to trim */
    _Atomic uint32_t waiting;       /* (a) coroutines in all the lists of waiters */
    bool again;                     /* (trimming) some are to be looked at again */
    _Atomic uint32_t next;          /* (a) where to go on; 0: it is done; written with trimming */
    _Atomic bool trimming;          /* (a) somebody does */
    _Atomic int64_t trimmed;        /* (a) when window_trim() last looked */
};
extern struct Windows windows;

/* window.c */
Window *window_get(P *p); /* from a list: free, unless it was shared meanwhile; NULL: none */
void window_put(P *p, Window *w);           /* w->listed was set just now. */
Window *window_shared(P *p, uint32_t turn); /* some window, free or not. There is one */
void window_used(void);                     /* there may be something to trim */
bool window_deepen(Window *w, size_t n);    /* room for n bytes and some more above the guard */
void window_protect(Window *w, char *sp, bool access); /* what lies from sp up */

/* WEFT_DEBUG=stackshare: nobody may touch what lies from sp up, while its coroutine is parked there. */
static inline void window_close(Window *w, char *sp)
{
    if (unlikely(sched.stackshare))
        window_protect(w, sp, false);
}

static inline void window_open(Window *w, char *sp)
{
    if (unlikely(sched.stackshare))
        window_protect(w, sp, true);
}

/* block.c */
void *block_alloc(P *p, size_t want,
                  size_t *size); /* at least want bytes; NULL: no memory. p may be NULL */
void block_free(P *p, void *block, size_t size); /* size 0: there is none */
void block_flush(P *p);                          /* give up p's cache */
void block_trim(void);         /* memory that is not used goes back, soon. Does not wait */
uint64_t block_resident(void); /* bytes of memory that the arena has; 0: not known */

/* copystack.c */
GList copystack_homeless(Window *w); /* w->lock held: who waits here, and may go elsewhere */
bool copystack_enter_slow(M *m, G *g);
void copystack_leave_slow(M *m, G *g);

/* g, bound to a window, is about to be switched to; only m can do that. False: not so easily. The slow one: the window
 * is another's now, and g waits for it (or for memory): run something else. */
static inline bool copystack_enter(G *g)
{
    set(&g->on, true);
    atomic_signal_fence(memory_order_seq_cst); /* pairs with the membarrier in unbias() */
    return likely(get_acq(&window_of(g)->bias) == g);
}

/* Perhaps somebody waits for g's window. */
static inline bool copystack_contended(const G *g)
{
    return get(&window_of(g)->bias) != g;
}

/* m has just switched away from g, and nobody else can switch to it before its commit. */
static inline void copystack_leave(M *m, G *g)
{
    set_rel(&g->on, false);
    atomic_signal_fence(memory_order_seq_cst); /* pairs with the membarrier in unbias() */
    if (unlikely(copystack_contended(g)))
        copystack_leave_slow(m, g);
}

bool copystack_bind(M *m, G *g); /* g's first run: false as in copystack_enter() */
void copystack_end(M *m, G *g);  /* g has returned, and is off its stack */

#endif
