/* SPDX-License-Identifier: MIT
 *
 * select.h: between select.c and select_fd.c. */
#ifndef WEFT_SELECT_H
#define WEFT_SELECT_H

#include "chan.h"

/* The ops are known to be right. */
static inline bool case_is_fd(const weft_case_t *k)
{
    return k->op > WEFT_SEND;
}
/* NULL: none, or a descriptor. (Of which the field may hold anything.) */
static inline weft_chan_t *case_chan(const weft_case_t *k)
{
    return likely(k->op <= WEFT_SEND) ? k->chan : NULL;
}

/* No error of select's: something has happened to a descriptor, look again. */
enum { SELECT_AGAIN = -4096 };

/* select.c */
/* The locks from `from` on: ascending, each once. */
void select_sort(LockSet *set, uint32_t from);
/* The block, large enough to do these cases; for a wait that a copied stack is not there for, with
 * room for their elements. NULL: no memory. */
BounceTail *select_block(G *g, const weft_case_t *cases, uint32_t n, bool wait);
/* With all channels locked, do a case, or wait. fds: how many are descriptors; what is known of
 * each is in the result of its Wait. The index; -EAGAIN, -ETIMEDOUT, -EPERM, -ENOMEM, -ECANCELED,
 * SELECT_AGAIN. */
int select_all(M **m, weft_case_t *cases, int n, int64_t deadline, bool block, uint32_t fds);

/* select_fd.c */
/* All of a select with an op that is not a channel's. -EINVAL: not a descriptor's either. */
int select_fds(M **m, weft_case_t *cases, int n, int64_t deadline, bool block);
int select_fds_pick(M *m, const weft_case_t *cases, int n); /* as select_pick() */
/* All channels are locked: lock the records too, and queue the caller on them. False: there is
 * something to look at before, and it is queued nowhere. */
bool select_fds_join(M *m, const weft_case_t *cases, uint32_t n, LockSet *set);
/* Awake: out of all queues. */
void select_fds_leave(M *m, const weft_case_t *cases, uint32_t n);

#endif
