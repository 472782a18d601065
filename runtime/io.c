/* SPDX-License-Identifier: MIT
 *
 * io.c: read, write, poll, deadlines and close on plain descriptors.
 *
 * A call tries first and waits only when the system says -EAGAIN, except for a
 * read that is known to find nothing (fd_dry): it waits at once. A request on a
 * kept-alive connection thus costs one recv, one send, and a share of an
 * epoll_wait. Whatever ends the wait otherwise, a deadline above all, is told
 * only after a last try: what can be done at once is done.
 *
 * A write tries before it clears FD_OUT, since it nearly always succeeds; a full
 * buffer costs it a second try.
 *
 * errno: a system call may change it, and weft calls keep it, so each call puts
 * back what it found (io_leave). It is read through the M, at once after the
 * system call, because the compiler may know only another thread's (HACKING.md).
 */
#include "io.h"

#include <unistd.h>

/* ---- entering and leaving ----------------------------------------------------- */

int io_enter(IO *io, int fd)
{
    io->m = rt_enter();
    if (unlikely(io->m == NULL))
        return rt_no_m();
    io->saved_errno = *io->m->errno_addr;
    return fd < 0 ? 0 : fd_ref(&io->m, fd, &io->f);
}

ssize_t io_leave(IO *io, ssize_t rc)
{
    if (unlikely(io->m == NULL))
        return rc;
    *io->m->errno_addr = io->saved_errno;
    rt_leave(io->m);
    return rc;
}

/* The system call found nothing. 0: try again; 1: once more, then *why is the answer. */
static int io_wait(IO *io, unsigned dir, int *why)
{
    int rc = netpoll_wait(&io->m, &io->f, dir);
    if (rc == 0 || rc == -ECANCELED)
        return rc;
    *why = rc;
    return 1;
}

/* The loop of every call that may wait in one direction. */
ssize_t io_run(IO *io, unsigned dir, IOTry *attempt, void *arg)
{
    int last = 0, why = -EAGAIN;
    if (io_is_file(io))
        return io_file(io, attempt, arg);
    for (;;) {
        int rc = fd_begin(&io->f, dir);
        if (rc != 0)
            return last ? why : rc;
        ssize_t n = attempt(io, arg);
        fd_end(io->m, &io->f, n == -EAGAIN ? 0 : dir);
        if (n != -EAGAIN)
            return n;
        if (last)
            return why;
        if ((last = io_wait(io, dir, &why)) < 0)
            return last;
    }
}

/* The reference is dropped before a P is asked for: at the end of the run we may stay there. What
 * was closed meanwhile is then closed by us, which can block as well. */
ssize_t io_file(IO *io, IOTry *attempt, void *arg)
{
    bool coroutine = io->m->p != NULL;
    int rc = fd_begin(&io->f, 0);
    if (rc != 0)
        return rc;
    if (coroutine)
        syscall_begin(io->m);
    ssize_t n = attempt(io, arg);
    fd_end(io->m, &io->f, 0);
    if (coroutine)
        syscall_end(io->m);
    return n;
}

/* ---- read ----------------------------------------------------------------------- */

/* The kernel does not move a stack's guard: it says EFAULT, or stops short. So
 * a large buffer on the caller's own stack is touched first. */
void io_touch(const void *buf, size_t len)
{
    size_t page = 4096;
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    if (len < page || (uintptr_t)buf - here > (uintptr_t)64 << 20)
        return;
    for (size_t at = len; at > page; at -= page)
        (void)*((const volatile char *)buf + at - 1);
    (void)*(const volatile char *)buf;
}

typedef struct {
    void *buf;
    size_t len;
} Room;

static inline ssize_t io_try_read(IO *io, void *buf, size_t len)
{
    ssize_t n;
    do {
        if (likely(io->f.word & FD_SOCKET))
            n = recv(io->f.fd, buf, len, MSG_DONTWAIT);
        else
            n = read(io->f.fd, buf, len);
        n = io_result(io, n);
    } while (io_again(io, n));
    return n;
}

static ssize_t io_read_file(IO *io, void *arg)
{
    const Room *r = arg;
    return io_try_read(io, r->buf, r->len);
}

static ssize_t io_read(IO *io, void *buf, size_t len)
{
    int last = 0, why = -EAGAIN;
    if (io_is_file(io))
        return io_file(io, io_read_file, &(Room){buf, len});
    for (;;) {
        ssize_t n = -EAGAIN;
        if (last || !fd_dry(&io->f, WEFT_READ)) {
            int rc = fd_begin(&io->f, WEFT_READ);
            if (rc != 0)
                return last ? why : rc;
            n = io_try_read(io, buf, len);
            fd_end_read(io->m, &io->f, n, len);
        }
        if (n != -EAGAIN)
            return n;
        if (last)
            return why;
        if ((last = io_wait(io, WEFT_READ, &why)) < 0)
            return last;
    }
}

/* Of no bytes: never waits, says whether fd can be read. */
static ssize_t io_read_none(IO *io)
{
    int rc = fd_begin(&io->f, 0);
    if (rc != 0)
        return rc;
    ssize_t n = read(io->f.fd, NULL, 0);
    if (n < 0)
        n = -*io->m->errno_addr;
    fd_end(io->m, &io->f, 0);
    return n == -EAGAIN ? 0 : n;
}

ssize_t weft_read(int fd, void *buf, size_t len)
{
    IO io;
    if (unlikely(fd < 0))
        return -EBADF;
    ssize_t n = io_enter(&io, fd);
    if (unlikely(n != 0))
        return io_leave(&io, n);
    io_touch(buf, len);
    n = unlikely(len == 0) ? io_read_none(&io) : io_read(&io, buf, len < IO_MOST ? len : IO_MOST);
    return io_leave(&io, n);
}

/* ---- write ---------------------------------------------------------------------- */

typedef struct {
    const void *buf;
    size_t len;
} Bytes;

static ssize_t io_try_write(IO *io, void *arg)
{
    const Bytes *b = arg;
    ssize_t n;
    do {
        if (likely(io->f.word & FD_SOCKET))
            n = send(io->f.fd, b->buf, b->len, MSG_DONTWAIT | MSG_NOSIGNAL);
        else
            n = write(io->f.fd, b->buf, b->len);
        n = io_result(io, n);
    } while (io_again(io, n));
    return n;
}

ssize_t weft_write(int fd, const void *buf, size_t len)
{
    IO io;
    if (unlikely(fd < 0))
        return -EBADF;
    ssize_t n = io_enter(&io, fd);
    if (unlikely(n != 0))
        return io_leave(&io, n);
    io_touch(buf, len);
    Bytes b = {buf, len < IO_MOST ? len : IO_MOST};
    if (io_is_file(&io)) {
        n = io_file(&io, io_try_write, &b);
    } else if (likely((n = fd_begin(&io.f, 0)) == 0)) {
        n = io_try_write(&io, &b);
        fd_end(io.m, &io.f, 0);
        if (unlikely(n == -EAGAIN))
            n = io_run(&io, WEFT_WRITE, io_try_write, &b);
    }
    return io_leave(&io, n);
}

/* ---- poll ------------------------------------------------------------------------- */

/* What is ready now; -errno. */
static int io_ready_now(const IO *io, unsigned dirs)
{
    struct pollfd p = {.fd = io->f.fd, .events = io_events(dirs)};
    int n;
    while ((n = poll(&p, 1, 0)) < 0)
        if (*io->m->errno_addr != EINTR)
            return -*io->m->errno_addr;
    return n == 0 ? 0 : io_ready(p.revents, dirs);
}

static int io_poll(IO *io, int events, int64_t deadline)
{
    unsigned dirs = (unsigned)events;
    int last = 0;
    if (io_is_file(io))
        return -EPERM;
    for (;;) {
        int rc = fd_begin(&io->f, dirs);
        if (rc != 0)
            return last != 0 ? last : rc;
        int ready = io_ready_now(io, dirs);
        fd_end(io->m, &io->f, ready < 0 ? dirs : (unsigned)ready); /* nothing was taken away */
        if (ready != 0)
            return ready;
        if (last != 0)
            return last;
        if (deadline != 0 && sys_now() >= deadline)
            return -ETIMEDOUT;
        last = netpoll_wait_any(&io->m, &io->f, dirs, deadline);
        if (last == -ECANCELED)
            return last;
    }
}

int weft_poll_fd(int fd, int events, int64_t deadline)
{
    IO io;
    if (fd < 0)
        return -EBADF;
    if (events == 0 || (events & ~(WEFT_READ | WEFT_WRITE)) != 0 || deadline < 0)
        return -EINVAL;
    int rc = io_enter(&io, fd);
    if (rc == 0)
        rc = io_poll(&io, events, deadline);
    return (int)io_leave(&io, rc);
}

/* ---- deadlines, close ---------------------------------------------------------------- */

int weft_set_deadline(int fd, int which, int64_t deadline)
{
    IO io;
    if (fd < 0)
        return -EBADF;
    if (which == 0 || (which & ~(WEFT_READ | WEFT_WRITE)) != 0 || deadline < 0)
        return -EINVAL;
    int rc = io_enter(&io, fd);
    if (rc == 0)
        rc = netpoll_deadline(io.m, &io.f, (unsigned)which, deadline);
    return (int)io_leave(&io, rc);
}

int weft_close(int fd)
{
    IO io;
    if (fd < 0)
        return -EBADF;
    int rc = io_enter(&io, -1);
    if (rc == 0)
        rc = fd_close(&io.m, fd);
    return (int)io_leave(&io, rc);
}
