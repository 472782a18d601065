/* SPDX-License-Identifier: MIT
 *
 * check_ctx_memory.c: contexts when there is no memory for them, and what becomes of their memory.
 *
 * The library takes memory from jemalloc's extended functions if the program has them. This program is not linked
 * with jemalloc: it has those functions itself. They fail when they are told to, count the blocks that the
 * thread that is told so takes, and spoil what is freed. */
#include "behaviour.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* ---- the allocator ------------------------------------------------------------------------- */

void *mallocx(size_t size, int flags);
void *rallocx(void *p, size_t size, int flags);
void dallocx(void *p, int flags);
int mallctl(const char *name, void *old, size_t *oldlen, void *new, size_t newlen);

static _Atomic int counting; /* what the thread `counts` takes counts */
static _Atomic pthread_t counts;
static _Atomic int fail_in; /* its so many'th allocation fails; 0: none */
static _Atomic int failed;
static _Atomic long live; /* of what was counted, what is not freed yet */

typedef struct {
    _Alignas(64) size_t size;
    bool counted;
} Header;

static bool ours(void)
{
    return counting != 0 && pthread_equal(counts, pthread_self());
}

void *mallocx(size_t size, int flags)
{
    bool counted = ours();
    size_t align = (size_t)1 << (flags & 63);
    if (align > sizeof(Header))
        abort();
    if (counted && fail_in > 0 && --fail_in == 0) {
        failed++;
        return NULL;
    }
    Header *h = aligned_alloc(64, (sizeof *h + size + 63) / 64 * 64);
    if (h == NULL)
        return NULL;
    memset(h, flags & 64 ? 0 : 0xa5, sizeof *h + size);
    h->size = size;
    h->counted = counted;
    live += counted;
    return h + 1;
}

void dallocx(void *p, int flags)
{
    Header *h = (Header *)p - 1;
    (void)flags;
    live -= h->counted;
    memset(p, 0x5a, h->size);
    free(h);
}

void *rallocx(void *p, size_t size, int flags)
{
    size_t old = ((Header *)p - 1)->size;
    void *q = mallocx(size, flags);
    if (q == NULL)
        return NULL;
    memcpy(q, p, old < size ? old : size);
    dallocx(p, 0);
    return q;
}

int mallctl(const char *name, void *old, size_t *oldlen, void *new, size_t newlen)
{
    (void)name, (void)old, (void)oldlen, (void)new, (void)newlen;
    return ENOENT; /* no arenas, no caches */
}

/* From here to quiet() the n'th allocation of this thread fails. Nothing in between parks. */
static void count(int n)
{
    counts = pthread_self();
    fail_in = n;
    counting = 1;
}

static void quiet(void)
{
    counting = 0;
    fail_in = 0;
}

/* ---- tests ------------------------------------------------------------------------------------ */

static const char key;
static const int64_t HOURS = 3600 * SEC;

/* How: 0 cancel, 1 deadline to come, 2 a past one, 3 value */
static weft_ctx_t *make(weft_ctx_t *parent, int how)
{
    return how == 0   ? weft_ctx_with_cancel(parent)
           : how == 3 ? weft_ctx_with_value(parent, &key, NULL)
                      : weft_ctx_with_deadline(parent, how == 2 ? 1 : from_now(HOURS));
}

/* Each constructor fails as a whole, and leaves its parent as it was. */
static void fails_body(void)
{
    EQ(live, 0);
    for (int above = 0; above < 5; above++)
        for (int how = 0; how < 4; how++) {
            count(0);
            weft_ctx_t *parent =
                above == 4 ? weft_ctx_background() : make(weft_ctx_background(), above);
            quiet();
            OK(parent != NULL);
            long before = live, was = failed;
            count(1);
            weft_ctx_t *c = make(parent, how);
            quiet();
            EQ(failed, was + 1);
            OK(c == NULL);
            EQ(live, before);
            if (above < 2)
                EQ(weft_ctx_cancel(parent, 0), 0);
            weft_ctx_unref(parent);
            EQ(live, 0);
        }
}

/* A group's context: none, and the group works all the same, and has one later. */
static int nothing(void *arg)
{
    return (int)(intptr_t)arg;
}

static void group_body(void)
{
    static weft_group_t g;
    memset(&g, 0, sizeof g);
    count(1);
    weft_ctx_t *c = weft_group_context(&g);
    quiet();
    OK(c == NULL);
    EQ(live, 0);
    EQ(weft_group_go(&g, nothing, NULL), 0);
    count(0);
    c = weft_group_context(&g);
    quiet();
    OK(c != NULL && c == weft_group_context(&g));
    EQ(weft_group_go(&g, nothing, (void *)(intptr_t)-EIO), 0);
    EQ(weft_recv(weft_ctx_done(c), NULL), 0);
    EQ(weft_ctx_cause(c), -EIO);
    EQ(weft_group_wait(&g), -EIO);
    EQ(live, 0);
}

/* Whatever order they go in, nothing stays, and nobody looks at what has gone (it is spoilt). */
enum { NODES = 60 };

static void orders_body(void)
{
    weft_ctx_t *c[NODES];
    uint32_t s = 1;
    for (int round = 0; round < 300; round++) {
        count(0);
        c[0] = make(weft_ctx_background(), round % 3);
        for (int i = 1; i < NODES; i++) {
            s = s * 1664525u + 1013904223u;
            c[i] = make(c[(s >> 8) % (uint32_t)i], s >> 30);
        }
        quiet();
        for (int left = NODES; left > 0; left--) {
            s = s * 1664525u + 1013904223u;
            int i = (int)((s >> 8) % (uint32_t)left);
            if (s >> 29 == 0)
                weft_ctx_cancel(c[i], 0);
            weft_ctx_unref(c[i]);
            c[i] = c[left - 1];
        }
        EQ(live, 0);
    }
}

/* Deadlines that come at last are the last to have their contexts. */
static void fire_body(void)
{
    for (int round = 0; round < 20; round++) {
        count(0);
        weft_ctx_t *c = weft_ctx_with_deadline(weft_ctx_background(), from_now(200 * US));
        weft_ctx_t *child = weft_ctx_with_cancel(c);
        quiet();
        weft_ctx_unref(c);
        EQ(weft_recv(weft_ctx_done(child), NULL), 0);
        EQ(weft_ctx_err(child), -ETIMEDOUT);
        weft_ctx_unref(child);
        while (live != 0) /* who has fired it may still be at it */
            weft_sleep(100 * US);
    }
}

static void (*const bodies[])(void) = {fails_body, group_body, orders_body, fire_body};
enum { BODIES = sizeof bodies / sizeof bodies[0] };

START_TEST(each)
{
    run(_i % NPROCS, bodies[_i / NPROCS]);
}
END_TEST

static weft_ctx_t *kept;

static void end_body(void)
{
    count(0);
    for (int i = 0; i < 50; i++)
        weft_ctx_unref(make(weft_ctx_background(), 1));
    kept = make(weft_ctx_background(), 1);
    weft_ctx_t *child = make(kept, 0), *low = weft_ctx_with_deadline(child, from_now(HOURS / 2));
    quiet();
    OK(low != NULL);
    weft_ctx_unref(child);
    weft_ctx_unref(low);
}

/* Timers that vanish take nothing with them. */
START_TEST(end_of_run)
{
    run(_i, end_body);
    EQ(weft_ctx_err(kept), -ECANCELED);
    EQ(live, 1);
    weft_ctx_unref(kept);
    EQ(live, 0);
}
END_TEST

int main(void)
{
    return run_bodies("ctx_memory", each, BODIES, end_of_run);
}
