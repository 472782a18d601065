/* SPDX-License-Identifier: MIT
 *
 * keys.c: coroutine-local storage, after POSIX's pthread_key_create().
 *
 * A key is an index, given out once and for the life of the process. A coroutine's values lie in an array that grows to
 * the largest key it has set. When it ends (its function returns, or weft_exit()) the
 * destructors are called on it, and may park, and set values again: up to ROUNDS times. Of one that is abandoned
 * by the end of the run they are called by the thread in weft_run(), before stacks are freed.
 *
 * A destructor is constant once its key is published: `made` is raised behind it (release), and whoever
 * has a value of a key has got the key from there.
 */
#include "rt.h"

enum { KEYS = 1024, ROUNDS = 4, FIRST = 4 };

static void (*destructors[KEYS])(void *);
static _Atomic uint32_t taken; /* indices given out */

int weft_key_create(weft_key_t *key, void (*destructor)(void *))
{
    if (key == NULL)
        return -EINVAL;
    uint32_t k = get(&taken);
    do {
        if (k == KEYS)
            return -EAGAIN;
    } while (!atomic_compare_exchange_weak(&taken, &k, k + 1));
    destructors[k] = destructor; /* before the caller has the key, and anybody through it */
    *key = k;
    return 0;
}

static int grow(Extra *x, uint32_t key)
{
    uint32_t n = x->nvalues > 0 ? x->nvalues : FIRST;
    while (n <= key)
        n *= 2;
    void **values = rt_realloc(x->values, n * sizeof *values);
    if (values == NULL)
        return -ENOMEM;
    memset(values + x->nvalues, 0, (n - x->nvalues) * sizeof *values);
    x->values = values;
    x->nvalues = n;
    return 0;
}

int weft_setspecific(weft_key_t key, const void *value)
{
    if (key >= get(&taken))
        return -EINVAL;
    G *g = coro_self();
    if (g == NULL)
        return rt_no_coro();
    M *m = rt_enter();
    Extra *x = extra_of(g);
    int rc = x == NULL ? -ENOMEM : 0;
    if (rc == 0 && key >= x->nvalues && value != NULL)
        rc = grow(x, key);
    if (rc == 0 && key < x->nvalues)
        x->values[key] = (void *)(uintptr_t)value;
    rt_leave(m);
    return rc;
}

void *weft_getspecific(weft_key_t key)
{
    const G *g = coro_self();
    const Extra *x = g != NULL ? g->x : NULL;
    return x != NULL && key < x->nvalues ? x->values[key] : NULL;
}

/* One round. False: there was nothing to do. */
static bool destroy(G *g)
{
    bool any = false;
    for (uint32_t k = 0; k < g->x->nvalues; k++) { /* a destructor may make it grow */
        void *value = g->x->values[k];
        g->x->values[k] = NULL;
        if (value != NULL && destructors[k] != NULL) {
            destructors[k](value);
            any = true;
        }
    }
    return any;
}

void keys_end(G *g)
{
    for (int round = 0; g->x != NULL && round < ROUNDS && destroy(g); round++)
        ;
}
