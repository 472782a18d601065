/* SPDX-License-Identifier: MIT
 *
 * fd.c: who may call the system on a descriptor, and when it is closed.
 *
 * Each number that weft has seen has a record, found through a table of blocks;
 * neither is ever freed or moved, so that a late event, an old timer or a
 * racing thread finds a record at any time and learns from the generation in
 * its word that it came too late.
 *
 * Closing. A number may be given out again as soon as close(2) has taken it back, and a
 * call that was about to read then reads another's file. So a call counts itself
 * in the word (fd_begin) for the time of its system call, and weft_close():
 *   1. sets CLOSING in the word; from here on nobody can begin;
 *   2. wakes who is parked: they hold no reference and never touch the number again;
 *   3. drops its own reference. Who drops the last one sets GONE, calls
 *      close(2), and then moves the word to the next generation, without flags.
 * Between GONE and the new generation the number may already belong to a new
 * file: whoever finds GONE waits until it is over instead of guessing. Sockets
 * and pipes never block inside a system call, so weft_close() waits for the
 * last user and the number is free when it returns; a blocking call on a file may
 * take its time, and then closes the file itself when it is done.
 * Price: two atomic operations on the record's own cache line for each call:
 * weft_write + weft_read of a byte through a pipe took 744 ns where write + read
 * took 658 (a shared 2-vCPU machine), all of what weft does in a call included.
 *
 * fd_begin's read-modify-write also clears FD_IN or FD_OUT *before* the system
 * call looks at the descriptor; netpoll.c says why that matters. All
 * read-modify-writes of the word are sequentially consistent, and pair with
 * each other: they are totally ordered, and each acts on what it has seen.
 *
 * A descriptor that was closed by a plain close() leaves its record behind. What
 * accept, dial and listen return is new for certain, so fd_adopt() gives it a
 * fresh generation whatever its record says.
 */
#include "fd.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 64, BLOCKS = 65536 }; /* four million descriptors */
static const int64_t PAUSE_NS = 20000;

static _Atomic(FD *) table[BLOCKS]; /* a block is set once */
static _Atomic int table_end;       /* blocks from here on were never set */

FD *fd_find(int fd)
{
    if (unlikely((unsigned)fd >= (unsigned)BLOCK * BLOCKS))
        return NULL;
    FD *block = get_acq(&table[fd / BLOCK]); /* pairs with the exchange in make() */
    return likely(block != NULL) ? &block[fd % BLOCK] : NULL;
}

/* The record of an open descriptor. NULL: no memory, or the number is too high. */
static FD *make(int fd)
{
    FD *r = fd_find(fd);
    if (r != NULL || (unsigned)fd >= (unsigned)BLOCK * BLOCKS)
        return r;
    FD *block = rt_alloc_aligned(CACHE_LINE, BLOCK * sizeof *block), *none = NULL;
    if (block == NULL)
        return NULL;
    for (int i = 0; i < BLOCK; i++)
        block[i].fd = fd / BLOCK * BLOCK + i;
    if (!atomic_compare_exchange_strong(&table[fd / BLOCK], &none, block))
        rt_free(block); /* another thread's is there */
    int end = atomic_load(&table_end);
    while (end <= fd / BLOCK && !atomic_compare_exchange_weak(&table_end, &end, fd / BLOCK + 1))
        ;
    return fd_find(fd);
}

void fd_foreach(void (*fn)(FD *, void *), void *arg)
{
    for (int b = 0; b < atomic_load(&table_end); b++) {
        FD *block = get_acq(&table[b]);
        for (int i = 0; block != NULL && i < BLOCK; i++)
            fn(&block[i], arg);
    }
}

/* Let somebody else get on with it. */
static M *pause_short(M *m)
{
    if (m->p == NULL) {
        sys_sleep_until(sys_now() + PAUSE_NS);
        return m;
    }
    G *g = m->g;
    uint16_t was = known_defer(g); /* what is waited for comes soon, and is needed */
    wait_begin(g);
    m = sched_park_until(m, WHY_IO, NULL, NULL, sys_now() + PAUSE_NS);
    known_resume(g, was);
    return m;
}

/* ---- what a descriptor is -------------------------------------------------- */

/* Through the M: after a park the compiler may know only another thread's errno. */
static int error(const M *m)
{
    return -*m->errno_addr;
}

static int set_nonblock(const M *m, int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return error(m);
    if ((flags & O_NONBLOCK) == 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return error(m);
    return 0;
}

/* Sockets that have the option TCP_NODELAY speak TCP. */
static bool is_tcp(int fd)
{
    int value;
    socklen_t len = sizeof value;
    return getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &len) == 0;
}

/* The flags of an unknown descriptor, made non-blocking if it can park. */
static int look(const M *m, int fd, uint64_t *flags)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return error(m);
    *flags = FD_KNOWN | FD_IN | FD_OUT;
    if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || S_ISBLK(st.st_mode)) {
        *flags |= FD_FILE;
        return 0;
    }
    if (S_ISSOCK(st.st_mode))
        *flags |= FD_SOCKET | (is_tcp(fd) ? FD_TCP : 0);
    return set_nonblock(m, fd);
}

/* Drop a reference, having set the flags more. The word before. The last user
 * of a descriptor that is being closed closes it; *err is close(2)'s word. */
static uint64_t drop(const M *m, FD *r, uint64_t more, int *err)
{
    uint64_t w = get(&r->word);
    while (!atomic_compare_exchange_weak(&r->word, &w, (w | more) - 1))
        ;
    if (likely((w & FD_CLOSING) == 0) || (w & FD_USERS) != 1)
        return w;
    atomic_fetch_or(&r->word, FD_GONE);
    *err =
        close(r->fd) != 0 && error(m) != -EINTR ? error(m) : 0; /* EINTR: it is gone all the same */
    uint64_t now = get(&r->word);
    while (!atomic_compare_exchange_weak(&r->word, &now, (now & ~(FD_FLAGS | FD_USERS)) + FD_GEN))
        ;
    return w;
}

/* The record is not there, or does not know its file. */
static int learn(M **m, int fd, FDRef *f)
{
    FD *r = fd_find(fd);
    if (r == NULL) {
        if (fcntl(fd, F_GETFD) < 0)
            return error(*m);
        if ((r = make(fd)) == NULL)
            return -ENOMEM;
    }
    uint64_t w = atomic_load(&r->word), flags = 0;
    for (;;) {
        if (w & FD_GONE) {
            *m = pause_short(*m);
            w = atomic_load(&r->word);
        } else if (w & FD_CLOSING) {
            return -EBADF;
        } else if (atomic_compare_exchange_weak(&r->word, &w, w + 1)) {
            break;
        }
    }
    f->r = r;
    f->gen = (uint32_t)(w >> 32);
    f->word = w;
    int err = 0, ignored;
    if ((w & FD_KNOWN) == 0 && (err = look(*m, fd, &flags)) != 0)
        flags = 0;
    f->word |= flags;
    drop(*m, r, flags, &ignored);
    return err;
}

int fd_ref(M **m, int fd, FDRef *f)
{
    if (unlikely(fd < 0))
        return -EBADF;
    f->fd = fd;
    FD *r = fd_find(fd);
    if (likely(r != NULL)) {
        uint64_t w = atomic_load(&r->word);
        if (likely((w & (FD_KNOWN | FD_CLOSING)) == FD_KNOWN)) {
            f->r = r;
            f->gen = (uint32_t)(w >> 32);
            f->word = w;
            return 0;
        }
    }
    return learn(m, fd, f);
}

int fd_adopt(M **m, int fd, bool tcp)
{
    FD *r = make(fd);
    if (r == NULL)
        return -ENOMEM;
    uint64_t flags = FD_KNOWN | FD_SOCKET | FD_IN | FD_OUT | (tcp ? FD_TCP : 0);
    uint64_t w = atomic_load(&r->word), want;
    do {
        while (w & FD_CLOSING) { /* close(2) of the file before is just returning */
            *m = pause_short(*m);
            w = atomic_load(&r->word);
        }
        want = (w & ~FD_FLAGS) | flags;
        if (w & FD_FLAGS)
            want += FD_GEN;
    } while (!atomic_compare_exchange_weak(&r->word, &w, want));
    if (unlikely(w & FD_FLAGS)) /* a plain close() has left it behind */
        netpoll_forget(*m, r);
    return 0;
}

/* ---- calls ---------------------------------------------------------------------- */

int fd_begin(FDRef *f, unsigned clear)
{
    uint64_t w = get(&f->r->word), bits = fd_in_out(clear);
    do {
        if (unlikely(!fd_same(w, f->gen)))
            return -ECANCELED;
        f->word = (w & ~bits) + 1;
    } while (!atomic_compare_exchange_weak(&f->r->word, &w, f->word));
    return 0;
}

bool fd_dry(const FDRef *f, unsigned dir)
{
    return (atomic_load(&f->r->word) & fd_in_out(dir)) == 0;
}

void fd_end(M *m, const FDRef *f, unsigned more)
{
    int ignored;
    uint64_t w = drop(m, f->r, fd_in_out(more), &ignored);
    if (unlikely(w & fd_waits(more)))
        netpoll_more(m, f->r, more);
}

/* A short read of a TCP connection has emptied it, if nothing but data has come:
 * it stops early for nothing but the end of the stream, an error or urgent data,
 * and all three are reported with FD_HUP. If the report came before fd_begin,
 * FD_HUP is set here; if it comes later, it sets FD_IN again. Other sockets and pipes
 * have messages, descriptors, credentials to stop at, so a short read says nothing there. */
void fd_end_read(M *m, const FDRef *f, ssize_t n, size_t len)
{
    if (likely(n > 0 && (size_t)n < len)) {
        uint64_t w = get(&f->r->word);
        if ((w & (FD_TCP | FD_ADDED | FD_HUP)) == (FD_TCP | FD_ADDED)) {
            fd_end(m, f, 0);
            return;
        }
    }
    fd_end(m, f, n == -EAGAIN ? 0 : WEFT_READ);
}

/* ---- closing -------------------------------------------------------------------- */

/* Others are in the middle of a system call with the number. */
static void await_users(M **m, const FD *r, uint32_t gen)
{
    for (int i = 0; i < 50 && (uint32_t)(atomic_load(&r->word) >> 32) == gen; i++)
        *m = pause_short(*m);
}

int fd_close(M **m, int fd)
{
    if (fd < 0)
        return -EBADF;
    FD *r = fd_find(fd);
    if (r == NULL) {
        if (fcntl(fd, F_GETFD) < 0)
            return error(*m);
        if ((r = make(fd)) == NULL) /* nobody can be using it through weft */
            return close(fd) != 0 ? error(*m) : 0;
    }
    uint64_t w = atomic_load(&r->word);
    for (;;) {
        if (w & FD_GONE) {
            *m = pause_short(*m);
            w = atomic_load(&r->word);
        } else if (w & FD_CLOSING) {
            return -EBADF;
        } else if (atomic_compare_exchange_weak(&r->word, &w, (w | FD_CLOSING) + 1)) {
            break;
        }
    }
    netpoll_forget(*m, r);
    bool file = (w & FD_FILE) != 0, declare = file && (*m)->p != NULL;
    int err = 0;
    if (declare)
        syscall_begin(*m); /* a file may have something to write back */
    w = drop(*m, r, 0, &err);
    if (declare)
        syscall_end(*m);
    if ((w & FD_USERS) != 1 && !file)
        await_users(m, r, (uint32_t)(w >> 32));
    return err;
}
