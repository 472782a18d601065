/* SPDX-License-Identifier: MIT
 *
 * transfer.c: the other calls that move bytes: several pieces, at a position, with an address, from
 * file to socket.
 *
 * All are attempts run by io_run() (io.c), which waits, obeys deadlines and sees closing; on files
 * by io_file(). What is too long is cut off, as counts may be short anyway.
 *
 * sendfile reads a file, which may block, and writes to what is usually a socket, which must not.
 * So each attempt is a declared blocking call, and only the descriptor that is written to is waited
 * for. What is read must be a file: of anything else -EAGAIN would not say which side is to be
 * waited for.
 */
#include "io.h"

#include <limits.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- several pieces ------------------------------------------------------------- */

typedef struct {
    const struct iovec *iov;
    int n;
    struct iovec first; /* the first piece alone, cut */
} Pieces;

/* Those that fit, and touch them. Their total; -EINVAL, -EFAULT. */
static ssize_t pieces_take(Pieces *p, const struct iovec *iov, int n)
{
    size_t total = 0;
    if (n < 0 || n > IOV_MAX)
        return -EINVAL;
    if (n > 0 && iov == NULL)
        return -EFAULT;
    *p = (Pieces){.iov = iov};
    while (p->n < n && iov[p->n].iov_len <= IO_MOST - total) {
        io_touch(iov[p->n].iov_base, iov[p->n].iov_len);
        total += iov[p->n++].iov_len;
    }
    if (total > 0 || p->n == n)
        return (ssize_t)total;
    p->first = (struct iovec){iov[p->n].iov_base, IO_MOST}; /* empty ones before it do not matter */
    p->iov = &p->first;
    p->n = 1;
    io_touch(p->first.iov_base, p->first.iov_len);
    return IO_MOST;
}

static ssize_t try_readv(IO *io, void *arg)
{
    const Pieces *p = arg;
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)p->iov, .msg_iovlen = (size_t)p->n};
    ssize_t n;
    do {
        if (io->f.word & FD_SOCKET)
            n = recvmsg(io->f.fd, &msg, MSG_DONTWAIT);
        else
            n = readv(io->f.fd, p->iov, p->n);
        n = io_result(io, n);
    } while (io_again(io, n));
    return n;
}

static ssize_t try_writev(IO *io, void *arg)
{
    const Pieces *p = arg;
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)p->iov, .msg_iovlen = (size_t)p->n};
    ssize_t n;
    do {
        if (io->f.word & FD_SOCKET)
            n = sendmsg(io->f.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        else
            n = writev(io->f.fd, p->iov, p->n);
        n = io_result(io, n);
    } while (io_again(io, n));
    return n;
}

ssize_t weft_readv(int fd, const struct iovec *iov, int n)
{
    IO io;
    Pieces p;
    if (fd < 0)
        return -EBADF;
    ssize_t rc = io_enter(&io, fd);
    if (rc == 0 && (rc = pieces_take(&p, iov, n)) > 0)
        rc = io_run(&io, WEFT_READ, try_readv, &p);
    return io_leave(&io, rc);
}

/* Of no bytes: an empty datagram is one, an empty write to anything else does nothing. */
ssize_t weft_writev(int fd, const struct iovec *iov, int n)
{
    IO io;
    Pieces p;
    if (fd < 0)
        return -EBADF;
    ssize_t rc = io_enter(&io, fd);
    if (rc == 0 && (rc = pieces_take(&p, iov, n)) >= 0)
        rc = io_run(&io, WEFT_WRITE, try_writev, &p);
    return io_leave(&io, rc);
}

/* ---- at a position ---------------------------------------------------------------- */

typedef struct {
    void *buf; /* pwrite only reads it */
    size_t len;
    off_t at;
} Span;

static ssize_t try_pread(IO *io, void *arg)
{
    const Span *s = arg;
    ssize_t n;
    do
        n = io_result(io, pread(io->f.fd, s->buf, s->len, s->at));
    while (io_again(io, n));
    return n;
}

static ssize_t try_pwrite(IO *io, void *arg)
{
    const Span *s = arg;
    ssize_t n;
    do
        n = io_result(io, pwrite(io->f.fd, s->buf, s->len, s->at));
    while (io_again(io, n));
    return n;
}

static ssize_t span_run(int fd, unsigned dir, IOTry *attempt, Span *s)
{
    IO io;
    if (fd < 0)
        return -EBADF;
    ssize_t rc = io_enter(&io, fd);
    if (rc == 0) {
        if (s->len > IO_MOST)
            s->len = IO_MOST;
        io_touch(s->buf, s->len);
        rc = io_run(&io, dir, attempt, s);
    }
    return io_leave(&io, rc);
}

ssize_t weft_pread(int fd, void *buf, size_t len, off_t at)
{
    return span_run(fd, WEFT_READ, try_pread, &(Span){buf, len, at});
}

ssize_t weft_pwrite(int fd, const void *buf, size_t len, off_t at)
{
    return span_run(fd, WEFT_WRITE, try_pwrite, &(Span){(void *)(uintptr_t)buf, len, at});
}

/* ---- with an address ---------------------------------------------------------------- */

typedef struct {
    void *buf; /* sendto only reads it */
    size_t len;
    int flags;
    struct sockaddr *sa; /* sendto only reads it */
    socklen_t *size;     /* recvfrom: in and out */
    socklen_t room;      /* recvfrom: *size at first; sendto: the address's */
} Datagram;

static ssize_t try_recvfrom(IO *io, void *arg)
{
    const Datagram *d = arg;
    ssize_t n;
    do {
        if (d->size != NULL)
            *d->size = d->room;
        n = recvfrom(io->f.fd, d->buf, d->len, d->flags | MSG_DONTWAIT, d->sa, d->size);
        n = io_result(io, n);
    } while (io_again(io, n));
    return n;
}

static ssize_t try_sendto(IO *io, void *arg)
{
    const Datagram *d = arg;
    ssize_t n;
    do {
        n = sendto(io->f.fd, d->buf, d->len, d->flags | MSG_DONTWAIT | MSG_NOSIGNAL, d->sa,
                   d->room);
        n = io_result(io, n);
    } while (io_again(io, n));
    return n;
}

/* MSG_DONTWAIT of the caller's. */
static ssize_t datagram_once(IO *io, unsigned dir, IOTry *attempt, Datagram *d)
{
    ssize_t n = fd_begin(&io->f, dir);
    if (n != 0)
        return n;
    n = attempt(io, d);
    fd_end(io->m, &io->f, n == -EAGAIN ? 0 : dir);
    return n;
}

static ssize_t datagram_run(int fd, unsigned dir, IOTry *attempt, Datagram *d)
{
    IO io;
    if (fd < 0)
        return -EBADF;
    ssize_t rc = io_enter(&io, fd);
    if (rc == 0) {
        if (d->len > IO_MOST)
            d->len = IO_MOST;
        io_touch(d->buf, d->len);
        if (d->flags & MSG_DONTWAIT)
            rc = datagram_once(&io, dir, attempt, d);
        else
            rc = io_run(&io, dir, attempt, d);
    }
    return io_leave(&io, rc);
}

ssize_t weft_recvfrom(int fd, void *buf, size_t len, int flags, struct sockaddr *sa,
                      socklen_t *size)
{
    if (sa == NULL)
        size = NULL;
    return datagram_run(fd, WEFT_READ, try_recvfrom,
                        &(Datagram){buf, len, flags, sa, size, size != NULL ? *size : 0});
}

ssize_t weft_sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *sa,
                    socklen_t size)
{
    return datagram_run(fd, WEFT_WRITE, try_sendto,
                        &(Datagram){(void *)(uintptr_t)buf, len, flags,
                                    (struct sockaddr *)(uintptr_t)sa, NULL, size});
}

/* ---- from a file ------------------------------------------------------------------------ */

typedef struct {
    FDRef in;
    off_t *at;
    size_t len;
} Copy;

/* The reference to `in` is dropped while the call is still a blocking one: see io_file(). */
static ssize_t try_copy(IO *io, void *arg)
{
    Copy *c = arg;
    ssize_t n;
    int rc = fd_begin(&c->in, 0);
    if (rc != 0)
        return rc;
    bool declare = io->m->p != NULL && !io_is_file(io);
    if (declare)
        syscall_begin(io->m);
    do
        n = sys_sendfile(io->f.fd, c->in.fd, c->at, c->len);
    while (io_again(io, n));
    fd_end(io->m, &c->in, 0);
    if (declare) {
        syscall_end(io->m);
        if (io->m->p == NULL && n == -EAGAIN) /* the run is over: we may not wait */
            n = -EINTR;
    }
    return n;
}

ssize_t weft_sendfile(int out, int in, off_t *at, size_t len)
{
    IO io;
    if (out < 0 || in < 0)
        return -EBADF;
    Copy c = {.at = at, .len = len < IO_MOST ? len : IO_MOST};
    ssize_t rc = io_enter(&io, out);
    if (rc == 0)
        rc = fd_ref(&io.m, in, &c.in);
    if (rc == 0 && (c.in.word & FD_FILE) == 0)
        rc = -EINVAL;
    if (rc == 0)
        rc = io_run(&io, WEFT_WRITE, try_copy, &c);
    return io_leave(&io, rc);
}
