/* SPDX-License-Identifier: MIT
 *
 * where.h: what coroutines are doing that run while a dump is taken. For who has the report stack. */
#ifndef WEFT_WHERE_H
#define WEFT_WHERE_H

#include "report.h"

typedef struct Place {
    G *g;
    uint64_t id;       /* g's */
    int64_t out_since; /* its P was taken then, as it is blocked in the kernel; 0: not */
    uint32_t m;        /* numbers of the M and the P; p < 0: none */
    int p;
    int tid;
    bool kernel;                    /* it is blocked there */
    _Atomic uint32_t state;         /* where.c */
    uint32_t n;                     /* 0: not known */
    uintptr_t frames[ENTRY_FRAMES]; /* the first is an instruction, the rest return addresses */
} Place;

/* Ask what runs now, but for self (may be NULL); some 0.1 ms, 30 at most. */
void where_ask(const M *self);
const Place *where_of(const G *g); /* as it was then; NULL: g did not run, or too many did */

#endif
