/* SPDX-License-Identifier: MIT
 *
 * glist.h: lists of Gs by their links, first in, first out, under whatever lock guards them.
 */
#ifndef WEFT_GLIST_H
#define WEFT_GLIST_H

#include "rt.h"

/* The chain from first to last, behind all others. */
static inline void glist_put(GList *l, G *first, G *last)
{
    last->link = NULL;
    *(l->tail != NULL ? &l->tail->link : &l->head) = first;
    l->tail = last;
}

static inline void glist_put_first(GList *l, G *g)
{
    g->link = l->head;
    l->head = g;
    if (l->tail == NULL)
        l->tail = g;
}

static inline G *glist_get(GList *l)
{
    G *g = l->head;
    if (g == NULL)
        return NULL;
    l->head = g->link;
    if (l->head == NULL)
        l->tail = NULL;
    return g;
}

/* The first that is held. */
static inline G *glist_get_held(GList *l)
{
    G *before = NULL, *g = l->head;
    while (g != NULL && !g->held) {
        before = g;
        g = g->link;
    }
    if (g == NULL || before == NULL)
        return g != NULL ? glist_get(l) : NULL;
    before->link = g->link;
    if (l->tail == g)
        l->tail = before;
    return g;
}

#endif
