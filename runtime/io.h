/* SPDX-License-Identifier: MIT
 *
 * io.h: what the I/O calls have in common: io.c, transfer.c, net.c, resolve.c, child.c, signal.c.
 */
#ifndef WEFT_IO_H
#define WEFT_IO_H

#include "fd.h"

#include <errno.h>
#include <poll.h>

struct addrinfo;

/* One system call moves at most this much, so that "short" means short. */
enum { IO_MOST = 1 << 30 };

/* One public call. */
typedef struct {
    M *m; /* the caller's, after every wait anew; NULL: there is none */
    int saved_errno;
    FDRef f;
} IO;

/* The system call: its result or -errno; -EAGAIN: wait. -EINTR only at the end of a run. */
typedef ssize_t IOTry(IO *io, void *arg);

int io_enter(IO *io, int fd); /* fd < 0: without a descriptor. Leave also after an error */
ssize_t io_leave(IO *io, ssize_t rc);
ssize_t io_run(IO *io, unsigned dir, IOTry *attempt,
               void *arg); /* until it is done or must not wait */
/* On what cannot be polled: once, as a declared blocking call. At the end of a run there may be
 * no P afterwards */
ssize_t io_file(IO *io, IOTry *attempt, void *arg);
void io_touch(const void *buf, size_t len); /* before the kernel reads or writes there */

/* A call on a file may block this thread as long as it likes. */
static inline bool io_is_file(const IO *io)
{
    return unlikely((io->f.word & FD_FILE) != 0);
}

/* What a system call has returned, as a result or -errno; at once after it. */
static inline ssize_t io_result(const IO *io, ssize_t n)
{
    if (likely(n >= 0))
        return n;
    n = -*io->m->errno_addr;
    return n == -EWOULDBLOCK ? -EAGAIN : n;
}

/* Call it again; not when the signal was meant to end the run. */
static inline bool io_again(const IO *io, ssize_t n)
{
    return unlikely(n == -EINTR) && (io->m->foreign || !get(&sched.stopping));
}

/* poll(2)'s words and ours. */
static inline short io_events(unsigned dirs)
{
    return (short)((dirs & WEFT_READ ? POLLIN : 0) | (dirs & WEFT_WRITE ? POLLOUT : 0));
}
/* Which of dirs are ready; an error or the end is both. -EBADF */
static inline int io_ready(short revents, unsigned dirs)
{
    unsigned ready = 0;
    if (revents & POLLNVAL)
        return -EBADF;
    if (revents & (POLLIN | POLLHUP | POLLERR))
        ready |= WEFT_READ;
    if (revents & (POLLOUT | POLLHUP | POLLERR))
        ready |= WEFT_WRITE;
    return (int)(ready & dirs);
}

/* resolve.c */
/* A stream socket's addresses, the thread blocked for a while. -EINVAL, -EHOSTUNREACH, -ENOMEM,
 * -ETIMEDOUT */
int net_resolve(IO *io, const char *host, int port, int flags, int64_t deadline,
                struct addrinfo **list);

#endif
