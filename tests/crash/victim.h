/* SPDX-License-Identifier: MIT
 *
 * victim.h: some coroutines start, one of which is to die, and main waits for that: what the
 * copied_* and overflow* programs have in common. */
#ifndef VICTIM_H
#define VICTIM_H

#include "weft.h"

typedef struct {
    weft_attr_t attr;
    void (*fn)(void *);
    int n, procs; /* 0: one; as many as usual */
} Victim;

static int entry(void *arg)
{
    const Victim *v = arg;
    for (int i = 0; i < v->n || i == 0; i++)
        if (weft_go_with(&v->attr, v->fn, NULL) != 0)
            return 3;
    weft_sleep(INT64_C(60) * 1000000000);
    return 4;
}

/* main's exit status, should nobody die. */
static inline int victim_run(Victim v)
{
    weft_config_t cfg = {.procs = v.procs};
    return weft_run_with(&cfg, entry, &v);
}

#endif
