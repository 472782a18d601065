/* SPDX-License-Identifier: MIT
 *
 * thread.c: the start and the end of a thread.
 *
 * Signals. A thread of ours must not be the one that runs the host program's
 * signal handlers: they would run on a coroutine's stack and interrupt calls
 * that never expected it. So it starts with everything blocked but the faults,
 * which a thread raises against itself and which may not be blocked. The mask
 * is set in the creator and inherited, since a signal could arrive before the
 * new thread's first instruction.
 */
#include "sys/sys.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

/* Coroutines have stacks of their own: this one carries the scheduler, and the
 * C library's thread-local storage, which glibc takes from the same memory. */
enum { THREAD_STACK = 256 * 1024 };

typedef struct {
    void (*fn)(void *);
    void *arg;
} ThreadStart;

static void *thread_main(void *p)
{
    ThreadStart s = *(ThreadStart *)p;

    free(p);
    s.fn(s.arg);
    return NULL;
}

static size_t thread_stack_size(void)
{
    long min = sysconf(_SC_THREAD_STACK_MIN); /* counts a signal frame on CPUs with big ones */
    size_t size = THREAD_STACK;

    if (min > 0)
        size += (size_t)min;
#if defined(WEFT_TSAN) || defined(WEFT_ASAN)
    size *= 4; /* their interceptors keep big buffers in their frames */
#endif
    return size;
}

static void thread_mask(sigset_t *set)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};

    sigfillset(set);
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
        sigdelset(set, faults[i]);
}

int sys_thread_create(SysThread *t, void (*fn)(void *), void *arg)
{
    pthread_attr_t attr;
    sigset_t mask, old;
    ThreadStart *s = malloc(sizeof(*s));

    if (s == NULL)
        return -ENOMEM;
    *s = (ThreadStart){fn, arg};
    int rc = pthread_attr_init(&attr);
    if (rc != 0)
        goto fail_start;
    pthread_attr_setstacksize(&attr, thread_stack_size()); /* refused: the default will do */
    thread_mask(&mask);
    pthread_sigmask(SIG_SETMASK, &mask, &old);
    rc = pthread_create(&t->pt, &attr, thread_main, s);
    if (rc == EINVAL) /* the program's thread-locals need more than that stack */
        rc = pthread_create(&t->pt, NULL, thread_main, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (rc == 0)
        return 0;
fail_start:
    free(s);
    return -rc;
}

void sys_thread_join(SysThread *t)
{
    pthread_join(t->pt, NULL);
}

void sys_yield(void)
{
    sched_yield();
}
