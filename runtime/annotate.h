/* SPDX-License-Identifier: MIT
 *
 * annotate.h: tell sanitizers which stack runs, empty in ordinary builds; and valgrind what the
 * runtime writes on stacks, one branch at the start of a coroutine in them.
 *
 * TSan: a fiber per G, switched right before arch_switch. ASan: start before,
 * finish on arrival; a G that ends passes no place to keep its fake stack.
 * Always inlined: TSan keeps a shadow call stack per fiber, and a function that
 * is entered on one fiber and left on another unbalances both.
 *
 * Valgrind takes a step of the stack pointer for growth if it is shorter than 2 MiB
 * (--max-stackframe), and what lies below a stack pointer for out of bounds. So stacks lie further
 * apart there (slots.c), and it must hear of what the runtime writes itself. Rejected: its requests
 * to register stacks. It keeps one current stack for all threads, and after each change of threads
 * misses the next frame (3.19).
 */
#ifndef WEFT_ANNOTATE_H
#define WEFT_ANNOTATE_H

#include "rt.h"

#ifdef WEFT_TSAN
#include <sanitizer/tsan_interface.h>
#define WEFT_NO_TSAN __attribute__((no_sanitize("thread")))
#else
#define WEFT_NO_TSAN
#endif
#ifdef WEFT_ASAN
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

enum { NOTE_FIRST = 512 }; /* bytes: what arch_prepare() writes is less */

#ifdef HAVE_VALGRIND
#include <valgrind/memcheck.h>
static inline bool note_valgrind(void)
{
    return RUNNING_ON_VALGRIND != 0;
}
/* The runtime is about to write here, on a stack that does not run. */
static inline void note_write(char *lo, const char *hi)
{
    if (unlikely(sched.valgrind))
        VALGRIND_MAKE_MEM_UNDEFINED(lo, hi - lo);
}
#else
static inline bool note_valgrind(void)
{
    return false;
}
static inline void note_write(char *lo, const char *hi)
{
    (void)lo, (void)hi;
}
#endif

static inline __attribute__((always_inline)) void
note_thread(M *m) /* m runs on its own stack for the first time */
{
    (void)m;
#ifdef WEFT_TSAN
    m->g0.fiber = __tsan_get_current_fiber();
#endif
#ifdef WEFT_ASAN
    pthread_attr_t a;
    void *lo = NULL;
    if (pthread_getattr_np(pthread_self(), &a) == 0) {
        pthread_attr_getstack(&a, &lo, &m->stack_size);
        pthread_attr_destroy(&a);
    }
    m->stack_lo = lo;
#endif
}

static inline __attribute__((always_inline)) void note_bind(G *g) /* g has a stack now */
{
    (void)g;
#ifdef WEFT_TSAN
    g->fiber = __tsan_create_fiber(0);
#endif
}

/* What lies at sp and above is about to be copied; what frames have left below it no longer counts. */
static inline void note_copy(const Slot *s, char *sp)
{
    (void)s, (void)sp;
#ifdef WEFT_ASAN
    void *lo, *hi;
    stack_bounds(s, &lo, &hi);
    char *from = sp - (char *)lo > 65536 ? sp - 65536 : (char *)lo;
    __asan_unpoison_memory_region(from, (size_t)((char *)hi - from));
#endif
}

static inline __attribute__((always_inline)) void note_end(G *g) /* g is off its stack for good */
{
    (void)g;
#ifdef WEFT_TSAN
    if (g->fiber != NULL)
        __tsan_destroy_fiber(g->fiber);
    g->fiber = NULL;
#endif
}

static inline __attribute__((always_inline)) void note_leave(M *m, G *prev, G *next, bool ends)
{
    (void)m, (void)prev, (void)next, (void)ends;
#ifdef WEFT_ASAN
    void *lo, *hi;
    if (next == &m->g0) {
        __sanitizer_start_switch_fiber(ends ? NULL : &prev->fake, m->stack_lo, m->stack_size);
    } else {
        stack_bounds(next->slot, &lo, &hi);
        __sanitizer_start_switch_fiber(ends ? NULL : &prev->fake, lo,
                                       (size_t)((char *)hi - (char *)lo));
    }
#endif
#ifdef WEFT_TSAN
    __tsan_switch_to_fiber(next->fiber, 0);
#endif
}

static inline __attribute__((always_inline)) void note_arrive(G *g)
{
    (void)g;
#ifdef WEFT_ASAN
    __sanitizer_finish_switch_fiber(g->fake, NULL, NULL);
    g->fake = NULL;
#endif
}

/* A dump looks at coroutines that run meanwhile, and says so: its reads are no races to report. */
#ifdef WEFT_TSAN
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
#endif
static inline void note_racy_reads(bool begin)
{
    (void)begin;
#ifdef WEFT_TSAN
    if (begin)
        AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    else
        AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
#endif
}

#endif
