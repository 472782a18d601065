/* SPDX-License-Identifier: MIT
 *
 * fd.h: a descriptor's record, shared by fd.c, netpoll.c, io.c and net.c.
 *
 * fd.c      who may call the system on a descriptor, and when it is closed
 * netpoll.c who waits for it, and who is woken
 * io.c      read, write, poll, close      net.c  sockets      select_fd.c  cases of a select
 *
 * Everything that the calls read without a lock is in one word:
 *
 *   bits 32-63  generation: changes when the number may mean another file
 *   bits 20-31  flags, below
 *   bits  0-19  users: calls that are in the system with this number now
 *
 * A user holds a reference only around the system call, never while it is
 * parked. Directions are masks: WEFT_READ, WEFT_WRITE (== SYS_IN, SYS_OUT).
 */
#ifndef WEFT_FD_H
#define WEFT_FD_H

#include "rt.h"

_Static_assert((int)WEFT_READ == (int)SYS_IN && (int)WEFT_WRITE == (int)SYS_OUT,
               "directions are used as events");

#define FD_USERS UINT64_C(0xfffff)
#define FD_KNOWN (UINT64_C(1) << 20)   /* looked at: the flags below mean something */
#define FD_SOCKET (UINT64_C(1) << 21)  /* recv, send */
#define FD_FILE (UINT64_C(1) << 22)    /* cannot be polled: calls block the thread */
#define FD_TCP (UINT64_C(1) << 23)     /* a short read means that nothing is left: fd_drained() */
#define FD_ADDED (UINT64_C(1) << 24)   /* the poller reports its edges */
#define FD_HUP (UINT64_C(1) << 25)     /* it reported the end of the stream or an error */
#define FD_IN (UINT64_C(1) << 26)      /* a read may succeed: see netpoll.c */
#define FD_OUT (UINT64_C(1) << 27)     /* a write may succeed */
#define FD_WAIT_IN (UINT64_C(1) << 28) /* somebody is parked for reading */
#define FD_WAIT_OUT (UINT64_C(1) << 29)
#define FD_CLOSING                                                                                 \
    (UINT64_C(1) << 30) /* weft_close() was called; the number still is the old file's */
#define FD_GONE (UINT64_C(1) << 31) /* close(2) is being called: the number may be anybody's */
#define FD_FLAGS (UINT64_C(0xfff) << 20)
#define FD_GEN (UINT64_C(1) << 32)

/* One direction: [0] reading, [1] writing. */
typedef struct {
    WaitQueue waitq;      /* (l) read, write, accept, connect; woken all at once */
    uint64_t seq;         /* (l) of the deadline: what an older timer wants is void */
    _Atomic bool expired; /* (a) the deadline has passed; written under the lock */
    Timer timer;          /* (l) the deadline */
} FDSide;

typedef struct {
    _Alignas(CACHE_LINE) _Atomic uint64_t word; /* (a) every change is a read-modify-write */
    Lock lock;       /* RANK_FD; never taken solo: Ms without a P take it */
    int fd;          /* (c) */
    WaitQueue pollq; /* (l) weft_poll_fd; Wait.dirs is the mask */
    FDSide side[2];  /* (l) */
} FD;

/* A descriptor as a call has found it. */
typedef struct {
    FD *r;
    int fd;
    uint32_t gen;
    uint64_t
        word; /* as fd_begin() left it; flags that are constant in a generation may be read here */
} FDRef;

static inline uint64_t fd_in_out(unsigned dirs) /* FD_IN, FD_OUT */
{
    return (uint64_t)dirs << 26;
}
static inline uint64_t fd_waits(unsigned dirs) /* FD_WAIT_IN, FD_WAIT_OUT */
{
    return (uint64_t)dirs << 28;
}
static inline bool fd_same(uint64_t word, uint32_t gen) /* the generation, and not being closed */
{
    return (uint32_t)(word >> 32) == gen && (word & FD_CLOSING) == 0;
}

/* fd.c */
FD *fd_find(int fd);                                  /* NULL: there is no record */
void fd_foreach(void (*fn)(FD *, void *), void *arg); /* every record that exists */
int fd_ref(M **m, int fd, FDRef *f);                  /* -EBADF, -ENOMEM */
int fd_begin(FDRef *f, unsigned clear);               /* 0, then call and fd_end(); -ECANCELED */
bool fd_dry(const FDRef *f, unsigned dir); /* the call would return -EAGAIN, as far as we know */
void fd_end(M *m, const FDRef *f, unsigned more); /* more: directions that may have more */
void fd_end_read(M *m, const FDRef *f, ssize_t n, size_t len);
int fd_adopt(M **m, int fd, bool tcp); /* a non-blocking socket that we have just made. -ENOMEM */
int fd_close(M **m, int fd);

/* netpoll.c */
int netpoll_wait(M **m, const FDRef *f,
                 unsigned dir); /* 0: try again; -ECANCELED -ETIMEDOUT -EPERM -ENOMEM -ENOSPC */
int netpoll_wait_any(M **m, const FDRef *f, unsigned dirs,
                     int64_t deadline); /* the same for weft_poll_fd */
/* The steps of a wait for several things. add: it will report edges; errors as netpoll_wait. join:
 * the lock is held; queue w (g, dirs, gen, select are set); false: there is something to look at
 * before. leave: the lock is held; take it out if nobody has. A coroutine that has joined is
 * counted in sched.waiters, once for each, until it takes itself out of there. */
int netpoll_add(const FDRef *f);
bool netpoll_join(M *m, FD *r, Wait *w);
void netpoll_leave(FD *r, Wait *w);
void netpoll_more(M *m, FD *r, unsigned dirs); /* somebody waits, and there may be more */
void netpoll_forget(M *m, FD *r); /* it is closed or replaced: all wake with -ECANCELED */
int netpoll_deadline(M *m, const FDRef *f, unsigned dirs, int64_t deadline);

#endif
