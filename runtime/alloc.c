/* SPDX-License-Identifier: MIT
 *
 * alloc.c: the runtime's memory other than stacks: Gs, channels, heaps, tables.
 *
 * From jemalloc when the program has it, linked or preloaded; from malloc
 * otherwise. The library itself never needs libjemalloc: the references are weak
 * (jemalloc.h), the dynamic linker binds them once, when libweft is loaded. So the
 * answer to "is it there?" is the same for the life of the process, and a block
 * always goes back to where it came from. (Debian's jemalloc has static TLS: a
 * library that needed it could not be dlopened, and needing it would replace
 * the host's malloc behind its back.) In valgrind it is malloc, which valgrind follows.
 *
 * With jemalloc, blocks are of an arena of our own: the host's short-lived
 * blocks and our long-lived ones do not share pages, so pages of ended
 * coroutines become free as a whole. Small blocks pass through the calling
 * thread's cache, which is filled from the arena: 13 ns for an allocation and its
 * free, against 157 ns without a cache (measured, jemalloc 5.3). The cache may
 * hand us a block that the host freed: harmless. Only saved stacks have a cache for
 * each P, and an arena of their own (block.c).
 *
 * mallocx() memory goes back by dallocx(), never by free(): a program may have
 * jemalloc's extended functions beside another malloc.
 *
 * No lock, no state but the arena's number. NULL means out of memory, which
 * every caller turns into -ENOMEM.
 */
#include "annotate.h"
#include "jemalloc.h"

#include <errno.h>
#include <stdlib.h>

/* Flags that choose our arena; 0: the automatic one. Neither of these is such flags. */
enum { NOT_ASKED = 1, NO_JE = 2 };
static _Atomic int alloc_arena = NOT_ASKED;

static int alloc_ask(void)
{
    unsigned a;
    size_t len = sizeof(a);
    int flags = NO_JE;
    if (mallocx != NULL && rallocx != NULL && dallocx != NULL && mallctl != NULL &&
        !note_valgrind())
        flags = mallctl("arenas.create", &a, &len, NULL, 0) == 0 ? JE_ARENA(a) : 0;
    /* Two threads may both have made one; the loser's stays empty. The number
     * is all there is to publish, hence relaxed. */
    int none = NOT_ASKED;
    if (!atomic_compare_exchange_strong_explicit(&alloc_arena, &none, flags, memory_order_relaxed,
                                                 memory_order_relaxed))
        flags = none;
    return flags;
}

static int alloc_flags(void)
{
    int flags = get(&alloc_arena);
    return likely(flags != NOT_ASKED) ? flags : alloc_ask();
}

static bool alloc_je(void)
{
    return alloc_flags() != NO_JE;
}

/* Neither allocator may leave its ENOMEM in errno: weft keeps errno. */
static void *alloc_keep_errno(void *p, int e)
{
    if (unlikely(p == NULL))
        errno = e;
    return p;
}

void *rt_alloc(size_t size)
{
    if (size == 0)
        size = 1; /* mallocx(0) is undefined */
    int e = errno;
    return alloc_keep_errno(alloc_je() ? mallocx(size, alloc_flags()) : malloc(size), e);
}

void *rt_alloc_aligned(size_t align, size_t size)
{
    if (size == 0)
        size = 1;
    int e = errno;
    void *p = NULL;
    if (alloc_je())
        p = mallocx(size, alloc_flags() | JE_ALIGN(align) | JE_ZERO);
    else if (posix_memalign(&p, align < sizeof(void *) ? sizeof(void *) : align, size) == 0)
        memset(p, 0, size);
    else
        p = NULL;
    return alloc_keep_errno(p, e);
}

void *rt_realloc(void *p, size_t size)
{
    if (p == NULL)
        return rt_alloc(size);
    if (size == 0)
        size = 1;
    int e = errno;
    return alloc_keep_errno(alloc_je() ? rallocx(p, size, alloc_flags()) : realloc(p, size), e);
}

/* jemalloc gives a thread its arena at its first allocation, and crashes if it has no memory for
 * one (5.3.0). So who makes a thread holds addresses for it meanwhile, against coroutines that are
 * being spawned until there are none left, and the thread lets go of them right before it asks. */
enum { ARENA_ROOM = 8 << 20 };

bool rt_alloc_room(void **room)
{
    *room = alloc_je() ? sys_reserve(ARENA_ROOM, sys_page()) : NULL;
    return *room != NULL || !alloc_je();
}

void rt_alloc_prepare(void *room)
{
    if (room != NULL)
        sys_release(room, ARENA_ROOM);
    rt_free(rt_alloc(16));
}

void rt_free(void *p)
{
    if (p == NULL)
        return;
    int e = errno;
    if (alloc_je())
        dallocx(p, 0);
    else
        free(p);
    errno = e;
}
