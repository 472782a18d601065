/* SPDX-License-Identifier: MIT
 *
 * bounce.c: what others read and write of a coroutine that waits for channels.
 *
 * A waker copies the element between its own place and the one that the Wait
 * names (Wait.elem). That is the user's, mostly on the waiter's stack, and so
 * an unbuffered exchange copies once. But a copied stack (window.c) may be away
 * when the waker comes, with another one in its place. Such a coroutine names a
 * place that stays where it is, and copies between that and the user's itself:
 * out of a sender's before that is queued, into a receiver's when that runs again.
 * Wakers know nothing of it, nor does anybody pay for it whose stack stays.
 *
 * The place: up to 8 bytes, the Wait's own word; more, the coroutine's block.
 *
 * The block (g->cases) has all that a wait on several channels needs besides:
 *
 *      Wait[ncases] | Tail: what is locked | the list of it | room
 *
 * in front because that is where the end of a run looks for what is queued. It
 * is kept for the next wait, unless it has much room. It is never made
 * under a channel's lock: an allocator's may be held by one who stands still.
 */
#include "chan.h"

enum { KEEP = 1024 };

bool bounce_grow(G *g, uint32_t n, size_t room)
{
    BounceTail *tail = g->cases != NULL ? bounce_tail(g) : NULL;
    if (n < g->ncases)
        n = g->ncases;
    if (tail != NULL && room < tail->room)
        room = tail->room;
    size_t list = n * sizeof(Lock *);
    size_t waits = n * sizeof(Wait);
    rt_free(g->cases);
    g->ncases = 0;
    g->cases = rt_alloc(waits + sizeof *tail + list + room);
    if (g->cases == NULL)
        return false;
    memset(g->cases, 0, waits);
    g->ncases = n;
    tail = bounce_tail(g);
    tail->set = (LockSet){(Lock **)(void *)(tail + 1), 0, 0};
    tail->room = room;
    return true;
}

size_t bounce_size(const weft_chan_t *c, const void *elem)
{
    if (c == NULL || elem == NULL || c->elem_size <= sizeof(uint64_t))
        return 0;
    return c->elem_size;
}

char *bounce_room(G *g)
{
    return g->cases != NULL ? (char *)(bounce_tail(g)->set.lock + g->ncases) : NULL;
}

char *bounce_in(Wait *w, const weft_chan_t *c, void *elem, bool send, char *room)
{
    size_t large = bounce_size(c, elem);
    w->elem = elem == NULL ? NULL : large == 0 ? (void *)&w->word : room;
    w->size = (uint16_t)c->elem_size;
    if (send)
        chan_copy(w->elem, elem, w->size);
    return room + large;
}

void bounce_out(G *g, const Wait *w, void *elem)
{
    if (w != NULL)
        chan_copy(elem, w->elem, w->size);
    if (g->cases != NULL && bounce_tail(g)->room > KEEP) {
        rt_free(g->cases);
        g->cases = NULL;
        g->ncases = 0;
    }
}
