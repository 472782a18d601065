/* SPDX-License-Identifier: MIT
 *
 * child.c: waiting for child processes.
 *
 * What can be told at once is told at once. A coroutine that waits for the end of one child parks
 * on a descriptor for it, where the system has such a thing: any number of them need no thread. It
 * need not say whose child it is: after each wake-up waitpid() is asked again. Groups, any child,
 * stops, and threads that are not weft's: waitpid() as a declared blocking call.
 *
 * The descriptors of coroutines that are abandoned at the end of a run would stay open: they are in
 * a list, which is gone through then. It does not lie on those coroutines' stacks, since each of them
 * writes into its neighbours' entries, and a neighbour's stack may be a copied one (window.c).
 */
#include "io.h"

#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    pid_t pid;
    int *status;
    int options;
    pid_t result; /* or -errno */
} Child;

typedef struct Watch {
    struct Watch *next, *prev;
    int fd;
} Watch;

static Lock lock; /* RANK_LEAF */
static Watch *watches;

/* NULL: no memory. */
static Watch *watch_begin(int fd)
{
    Watch *w = rt_alloc(sizeof *w);
    if (w == NULL)
        return NULL;
    w->fd = fd;
    lock_acquire(NULL, &lock, RANK_LEAF);
    w->prev = NULL;
    if ((w->next = watches) != NULL)
        w->next->prev = w;
    watches = w;
    lock_release(&lock);
    return w;
}

static void watch_end(Watch *w)
{
    lock_acquire(NULL, &lock, RANK_LEAF);
    *(w->prev != NULL ? &w->prev->next : &watches) = w->next;
    if (w->next != NULL)
        w->next->prev = w->prev;
    lock_release(&lock);
    rt_free(w);
}

void child_fini(void)
{
    for (Watch *w = watches, *next; w != NULL; w = next) {
        next = w->next;
        close(w->fd);
        rt_free(w);
    }
    watches = NULL;
}

/* -EAGAIN: it lives on. */
static ssize_t try_wait(IO *io, void *arg)
{
    const Child *c = arg;
    ssize_t n;
    do
        n = io_result(io, waitpid(c->pid, c->status, c->options | WNOHANG));
    while (n == -EINTR);
    return n == 0 ? -EAGAIN : n;
}

/* -EAGAIN: we may not wait like that. */
static ssize_t wait_parked(IO *io, Child *c)
{
    int fd = sys_child_open(c->pid);
    if (fd < 0)
        return -EAGAIN;
    Watch *w = watch_begin(fd);
    if (w == NULL) {
        close(fd);
        return -EAGAIN;
    }
    ssize_t n = fd_adopt(&io->m, fd, false); /* a socket as good as any: it is only polled */
    if (n == 0)
        n = fd_ref(&io->m, fd, &io->f);
    if (n == 0)
        n = io_run(io, WEFT_READ, try_wait, c);
    watch_end(w);
    fd_close(&io->m, fd);
    return n == -ENOMEM || n == -ENOSPC || n == -EPERM ? -EAGAIN : n;
}

/* weft_blocking: outside of the runtime, so that the end of a run can take the coroutine out of it. */
static void *wait_blocked(void *arg)
{
    Child *c = arg;
    int *err = weft_errno(), saved = *err;
    do
        c->result = waitpid(c->pid, c->status, c->options);
    while (c->result < 0 && *err == EINTR);
    if (c->result < 0)
        c->result = -*err;
    *err = saved;
    return NULL;
}

pid_t weft_waitpid(pid_t pid, int *status, int options)
{
    IO io;
    Child c = {.pid = pid, .status = status, .options = options};
    ssize_t n = io_enter(&io, -1);
    if (n != 0)
        return (pid_t)io_leave(&io, n);
    n = try_wait(&io, &c);
    if (n == -EAGAIN && options & WNOHANG)
        n = 0;
    else if (n == -EAGAIN && io.m->p != NULL && pid > 0 && options == 0)
        n = wait_parked(&io, &c);
    io_leave(&io, 0);
    if (n != -EAGAIN)
        return (pid_t)n;
    int rc = weft_blocking(wait_blocked, &c, NULL);
    return rc != 0 ? rc : c.result;
}
