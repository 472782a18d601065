/* SPDX-License-Identifier: MIT
 *
 * poller.c: readiness by epoll.
 *
 * Descriptors are registered once, edge-triggered, for both directions; the
 * eventfd that ends a wait, and before Linux 5.11 a timerfd that times it, are
 * level-triggered and carry cookies of their own.
 *
 * Wake-ups are coalesced: wake_pending is 1 while an unread wake-up is, or is
 * about to be, in the eventfd; only the caller that turns it from 0 to 1
 * writes. Only the one thread that waits reads it back: it reads the eventfd
 * first and then exchanges wake_pending for 0. Those that merely look leave the
 * eventfd readable: a wake-up is meant for whoever waits.
 * Why none is lost. A wake-up finds either
 *  - 0: it writes, and the wait that is on, or the next one, ends; or
 *  - 1: an earlier one has written or is just writing, and no waiter has done
 *    its exchange since. That waiter has not returned yet: it is about to, or it
 *    will when the write arrives, and its exchange (acquire) reads what the
 *    exchanges of all wakers before it (release; read-modify-writes continue the
 *    release sequence) have published. So it returns after the wake-up, seeing
 *    what was done before it: all that a wake-up promises.
 * In between, between the waiter's read and its exchange, the flag is 1 and the
 * eventfd is empty: a waker that comes then writes nothing, and falls under the
 * second case. An earlier writer's write(2) may still be on its way then: it
 * makes the next wait return at once with nothing, which is allowed.
 *
 * The poller's descriptors are opened and closed at the start and the end of a
 * run, when nobody waits.
 */
#include "sys/sys.h"
#include "sys/linux/linux.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#ifdef HAVE_VALGRIND
#include <valgrind/valgrind.h>
#endif

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441 /* the same number on every CPU */
#endif

static const uint64_t COOKIE_WAKE = UINT64_MAX, COOKIE_TIMER = UINT64_MAX - 1;
enum { BATCH = 128 };

bool poller_no_pwait2;

static struct {
    int ep;
    int wake;  /* eventfd */
    int timer; /* timerfd; -1 until epoll_pwait2 proves missing */
    bool no_pwait2;
    _Atomic uint32_t wake_pending;
} poller = {.ep = -1, .wake = -1, .timer = -1};

static int poller_add_level(int fd, uint64_t cookie)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = cookie};

    return epoll_ctl(poller.ep, EPOLL_CTL_ADD, fd, &ev) == 0 ? 0 : -errno;
}

int sys_poller_open(void)
{
    int rc;

    poller.no_pwait2 = poller_no_pwait2;
#ifdef HAVE_VALGRIND
    poller.no_pwait2 |=
        RUNNING_ON_VALGRIND != 0; /* it does not know the call, and says so each time */
#endif
    poller.ep = epoll_create1(EPOLL_CLOEXEC);
    if (poller.ep < 0)
        return -errno;
    poller.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = poller.wake < 0 ? -errno : poller_add_level(poller.wake, COOKIE_WAKE);
    if (rc == 0) {
        /* Now, rather than in a wait that has no way to report a failure. */
        poller.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        rc = poller.timer < 0 ? -errno : poller_add_level(poller.timer, COOKIE_TIMER);
    }
    atomic_store_explicit(&poller.wake_pending, 0, memory_order_relaxed); /* nobody else yet */
    if (rc != 0)
        sys_poller_close();
    return rc;
}

static void poller_close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void sys_poller_close(void)
{
    poller_close_fd(&poller.timer);
    poller_close_fd(&poller.wake);
    poller_close_fd(&poller.ep);
}

int sys_poller_add(int fd, uint64_t cookie)
{
    int saved = errno, rc = 0;
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET,
                             .data.u64 = cookie};

    if (epoll_ctl(poller.ep, EPOLL_CTL_ADD, fd, &ev) != 0)
        rc = -errno;
    errno = saved;
    return rc;
}

int sys_poller_del(int fd)
{
    int saved = errno, rc = 0;
    struct epoll_event ev = {0}; /* Linux before 2.6.9 wanted one; costs nothing */

    if (epoll_ctl(poller.ep, EPOLL_CTL_DEL, fd, &ev) != 0)
        rc = -errno;
    errno = saved;
    return rc;
}

void sys_poller_wake(void)
{
    int saved = errno;
    uint64_t one = 1;

    /* release: with the waiter's exchange; relaxed when it was 1 would not do,
     * since the waiter must see what this caller has done as well. */
    if (atomic_exchange_explicit(&poller.wake_pending, 1, memory_order_acq_rel) == 0)
        while (write(poller.wake, &one, sizeof(one)) < 0 && errno == EINTR)
            ;
    errno = saved;
}

/* The waiter has found the eventfd readable. */
static void poller_drain_wake(void)
{
    uint64_t n;

    while (read(poller.wake, &n, sizeof(n)) < 0 && errno == EINTR)
        ;
    atomic_exchange_explicit(&poller.wake_pending, 0, memory_order_acq_rel); /* see above */
}

static struct timespec poller_timespec(int64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = ns % 1000000000};
}

/* Before 5.11: the timerfd makes the nanoseconds. Setting it takes an expiry
 * that nobody has seen back, so it needs no reading. */
static int poller_wait_timerfd(struct epoll_event *ev, int n, int64_t timeout)
{
    struct itimerspec it = {0};

    if (timeout > 0)
        it.it_value = poller_timespec(timeout);
    timerfd_settime(poller.timer, 0, &it, NULL);
    return epoll_wait(poller.ep, ev, n, -1);
}

static int poller_wait(struct epoll_event *ev, int n, int64_t timeout)
{
    if (timeout == 0)
        return epoll_wait(poller.ep, ev, n, 0);
    if (!poller.no_pwait2) {
        struct timespec ts = poller_timespec(timeout < 0 ? 0 : timeout);
        long rc = syscall(SYS_epoll_pwait2, poller.ep, ev, n, timeout < 0 ? NULL : &ts, NULL, 0);
        if (rc >= 0 || (errno != ENOSYS && errno != EPERM)) /* EPERM: an old seccomp filter */
            return (int)rc;
        poller.no_pwait2 = true; /* only the one thread that waits comes here */
    }
    return poller_wait_timerfd(ev, n, timeout);
}

static unsigned poller_events(uint32_t e)
{
    unsigned events = 0;

    if (e & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        events |= SYS_IN;
    if (e & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        events |= SYS_OUT;
    if (e & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        events |= SYS_HUP;
    return events;
}

int sys_poller_wait(SysEvent *out, int n, int64_t timeout)
{
    struct epoll_event ev[BATCH];
    int saved = errno, filled = 0;
    int got = poller_wait(ev, n < BATCH ? n : BATCH, timeout);

    for (int i = 0; i < got; i++) {
        uint64_t cookie = ev[i].data.u64;
        if (cookie == COOKIE_WAKE) {
            if (timeout != 0)
                poller_drain_wake();
        } else if (cookie != COOKIE_TIMER) {
            out[filled++] = (SysEvent){cookie, poller_events(ev[i].events)};
        }
    }
    errno = saved;
    return filled;
}
