/* SPDX-License-Identifier: MIT
 *
 * tick.c: the signal that interrupts a thread: by its own clock, or by another
 * thread.
 *
 * A signal that hits a thread inside a system call cuts short what unmodified C
 * never checks: nanosleep, poll, sem_timedwait, sleep, SA_RESTART or not. So all
 * that comes by itself counts the thread's CPU time, and that is not enough yet:
 * a thread on its way into nanosleep() still runs. What is used here never
 * strikes in the kernel:
 *
 *   timer  timer_create() on CLOCK_THREAD_CPUTIME_ID, SIGEV_THREAD_ID. Looked at
 *          in the kernel's own tick (4 ms at HZ=250). The work of an expiry, the
 *          signal included, is done when the thread returns to user code: so with
 *          CONFIG_POSIX_CPU_TIMERS_TASK_WORK, checked on Linux 6.18.
 *   perf   the software task-clock, a high-resolution timer that runs while the
 *          thread does. exclude_kernel: an expiry within the kernel counts for
 *          nothing. It needs less permission, and is what makes it safe; the price
 *          is that a thread which spends nearly all its time in system calls gets
 *          its ticks late.
 *   nudge  the same, off until another thread asks for one expiry (IOC_REFRESH),
 *          40 us of CPU time from then; within the kernel it is put off by 40 us
 *          again. Opened by the first thread that nudges: even while off, a perf
 *          event makes each switch of its thread 0.4 us slower (of 1.9), so only
 *          those have one that somebody found busy for long. Where perf is not
 *          permitted (most containers) the timer is set to expire at the next
 *          jiffy instead: late by up to 4 ms, but never in the kernel.
 *   poke   a signal from another thread, at once: 9 us to send and 15 to arrive
 *          where a nudge takes 25 and 60 (a virtual machine). It does cut short a
 *          system call. Of a thousand pokes at a loop around nanosleep() 300 did;
 *          of 200 after a look at the thread's state still 60; no nudge.
 *
 * A tick costs 20 us on that machine, nearly all of it in the kernel, with cold
 * caches (signals sent without a pause between them: 2 us). Only fewer ticks cost
 * less. tools/bench/tick_cost.c has the measurements.
 *
 * Whose signal is it? The host may use the same number, and one number has one
 * handler. Ours say so: a timer's and a poke's value is the address of a variable
 * in this file, and perf's descriptor is in the table of ours (fds.c). Hence pokes go
 * by rt_tgsigqueueinfo(): tgkill() carries nothing, and a flag beside it
 * could not tell a host's raise() at the same moment. When the kernel has no
 * memory for the value (RLIMIT_SIGPENDING) it delivers a bare signal: user 0,
 * process 0. That one is taken as ours and passed on as well if somebody had a
 * handler. Signals of the same number to the same thread merge while one is
 * pending: a tick may swallow a poke, so the answer to either is to look. It may
 * swallow a host's pthread_kill() too; kill() and SIGURG from a socket go
 * to the process, which pends separately. A late tick after stop or removal is
 * still known as ours and dropped.
 *
 * The handler touches no thread-local variable but libc's errno (initial-exec
 * there): nothing for a dlopen()ed libweft to allocate at a bad moment. Nor does it
 * know its SysTick. tick_fn is written by install and remove, read by handlers:
 * release pairs with acquire, since what fn needs was set up before.
 *
 * fork: timers are not inherited and descriptors are closed in the child (fds.c);
 * a SysTick knows its process and does nothing in another. exec: timers go, perf's
 * descriptors are close-on-exec; a poke that is pending then meets the default
 * action, which is why SIGURG (ignored) is the default choice.
 *
 * Raw system calls for timers: glibc had them in librt before 2.34.
 */
#include "sys/sys.h"
#include "sys/linux/linux.h"
#include "sys/posix/posix.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id /* glibc 2.36 */
#define sigev_notify_thread_id _sigev_un._tid
#endif

/* Short, for the sake of latency; not the kernel's least of 10 us, since expiries during a long
 * system call come to nothing but an interrupt, which costs a virtual machine 10 to 20 us. */
enum { NUDGE_NS = 40000, NUDGES = 64 /* descriptors: the host has 1024, perhaps */ };
static const int64_t SEC = 1000000000;

static _Atomic(SysTickFn) tick_fn;
static _Atomic int tick_signo = SIGURG;
static _Atomic int nudges;        /* descriptors that are open */
static _Atomic bool tick_no_perf; /* it was refused once */
static char tick_mark, poke_mark; /* their addresses are in the signals */

/* ---- the handler --------------------------------------------------------- */

enum Whose { WHOSE_OTHER, WHOSE_TICK, WHOSE_POKE, WHOSE_LOST };

static enum Whose tick_perf(int fd)
{
    switch (fds_kind(fd)) {
    case FD_TICK:
        return WHOSE_TICK;
    case FD_NUDGE:
    case FD_NUDGED:
        fds_change(fd, FD_NUDGED, FD_NUDGE); /* before fn looks: a later nudge is a new one */
        return WHOSE_POKE;
    default:
        return WHOSE_OTHER;
    }
}

static enum Whose tick_whose(const siginfo_t *info)
{
    switch (info->si_code) {
    case SI_TIMER:
        return info->si_value.sival_ptr == &tick_mark ? WHOSE_TICK : WHOSE_OTHER;
    case SI_QUEUE:
        return info->si_value.sival_ptr == &poke_mark ? WHOSE_POKE : WHOSE_OTHER;
    case SI_USER:
        return info->si_pid == 0 && info->si_uid == 0 ? WHOSE_LOST : WHOSE_OTHER;
    case POLL_IN:  /* an expiry */
    case POLL_HUP: /* the last that was asked for */
        return tick_perf(info->si_fd);
    default:
        return WHOSE_OTHER;
    }
}

static void tick_handler(int sig, siginfo_t *info, void *uc)
{
    int saved = errno;
    enum Whose whose = tick_whose(info);
    SysTickFn fn = atomic_load_explicit(&tick_fn, memory_order_acquire); /* pairs with install */

    if (whose == WHOSE_OTHER || (whose == WHOSE_LOST && chain_has_previous(sig)))
        chain_pass_on(sig, info, uc, false);
    if (whose != WHOSE_OTHER && fn != NULL)
        fn(whose != WHOSE_TICK, uc);
    errno = saved;
}

/* Not: faults and what aborts; job control; those whose si_code has meanings of its own. */
static bool tick_may_use(int signo)
{
    static const int no[] = {SIGSEGV, SIGBUS,  SIGFPE,  SIGILL,  SIGTRAP, SIGABRT, SIGSYS,
                             SIGCHLD, SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU, SIGKILL, SIGSTOP};

    for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
        if (signo == no[i])
            return false;
    return signo > 0 && signo < _NSIG;
}

int sys_tick_install(int signo, SysTickFn fn)
{
    int saved = errno;

    signo = signo != 0 ? signo : SIGURG;
    if (!tick_may_use(signo))
        return -EINVAL;
    if (atomic_load(&tick_fn) != NULL && signo != sys_tick_signal())
        return -EBUSY;
    atomic_store(&tick_signo, signo);
    atomic_store_explicit(&tick_fn, fn, memory_order_release); /* pairs with the handler */
    int rc = chain_install(signo, tick_handler);
    if (rc != 0)
        atomic_store(&tick_fn, NULL);
    errno = saved;
    return rc;
}

void sys_tick_remove(void)
{
    int saved = errno;

    atomic_store_explicit(&tick_fn, NULL, memory_order_release); /* pairs with the handler */
    chain_remove(sys_tick_signal(), tick_handler);
    errno = saved;
}

void sys_tick_may_use_perf(bool may)
{
    atomic_store(&tick_no_perf, !may);
}

bool sys_tick_replaced(void)
{
    return atomic_load(&tick_fn) != NULL && !chain_on_top(sys_tick_signal(), tick_handler);
}

int sys_tick_signal(void)
{
    return atomic_load_explicit(&tick_signo, memory_order_relaxed);
}

/* ---- the sources ----------------------------------------------------------- */

static struct timespec tick_timespec(int64_t ns)
{
    return (struct timespec){.tv_sec = ns / SEC, .tv_nsec = ns % SEC};
}

/* 0.5 to 1.5 periods from now, so that threads started or changed together do
 * not meet in the kernel at every tick. */
static int tick_timer_set(const SysTick *t, int64_t period)
{
    int64_t first = period / 2 + (int64_t)((double)period * t->phase / 4294967296.0);
    struct itimerspec its = {tick_timespec(period), tick_timespec(period > 0 ? first + 1 : 0)};

    return syscall(SYS_timer_settime, t->timer, 0, &its, NULL) == 0 ? 0 : -errno;
}

/* At the next jiffy that the thread runs in. */
static int tick_timer_soon(const SysTick *t)
{
    struct itimerspec its = {tick_timespec(atomic_load(&t->period)), {.tv_nsec = 1}};

    return syscall(SYS_timer_settime, t->timer, 0, &its, NULL) == 0 ? 0 : -errno;
}

static int tick_timer_open(SysTick *t)
{
    struct sigevent sev;

    memset(&sev, 0, sizeof(sev));
    sev.sigev_notify = SIGEV_THREAD_ID;
    sev.sigev_signo = sys_tick_signal();
    sev.sigev_value.sival_ptr = &tick_mark;
    sev.sigev_notify_thread_id = t->tid;
    return syscall(SYS_timer_create, CLOCK_THREAD_CPUTIME_ID, &sev, &t->timer) == 0 ? 0 : -errno;
}

/* A task-clock of thread tid, off; a descriptor of the given kind or -errno. */
static int tick_perf_open(int tid, int64_t period, enum FdKind kind)
{
    struct perf_event_attr attr;
    struct f_owner_ex owner = {F_OWNER_TID, tid};
    int signo = sys_tick_signal();

    if (signo >= SIGRTMIN) /* when the queue is full the kernel would send SIGIO, which kills */
        return -EINVAL;
    memset(&attr, 0, sizeof(attr));
    attr.size = sizeof(attr);
    attr.type = PERF_TYPE_SOFTWARE;
    attr.config = PERF_COUNT_SW_TASK_CLOCK;
    attr.sample_period = (uint64_t)period;
    attr.disabled = 1;
    attr.exclude_kernel = 1;
    attr.exclude_hv = 1;
    int fd = (int)syscall(SYS_perf_event_open, &attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fcntl(fd, F_SETOWN_EX, &owner) != 0 || fcntl(fd, F_SETSIG, signo) != 0 ||
        fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK) != 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fds_own(fd, kind);
}

static int tick_perf_set(const SysTick *t, int64_t period)
{
    uint64_t value = (uint64_t)period;

    if (period == 0)
        return ioctl(t->fd, PERF_EVENT_IOC_DISABLE, 0) == 0 ? 0 : -errno;
    if (ioctl(t->fd, PERF_EVENT_IOC_PERIOD, &value) != 0)
        return -errno;
    return ioctl(t->fd, PERF_EVENT_IOC_ENABLE, 0) == 0 ? 0 : -errno;
}

static bool tick_is_here(const SysTick *t)
{
    return atomic_load(&t->tid) != 0 && t->pid == (int)syscall(SYS_getpid);
}

/* ---- a thread's tick --------------------------------------------------------- */

int sys_tick_period(SysTick *t, int64_t period)
{
    int saved = errno, rc = 0;

    if (period < 0)
        return -EINVAL;
    if (!tick_is_here(t) || atomic_exchange(&t->period, period) == period)
        return 0; /* setting the same again would only put the next tick off */
    for (;;) {
        if (t->timer >= 0)
            rc = tick_timer_set(t, period);
        else if (t->fd >= 0)
            rc = tick_perf_set(t, period);
        int64_t now = atomic_load(&t->period);
        if (now == period) /* else another thread's may have come before ours */
            break;
        period = now;
    }
    errno = saved;
    return rc;
}

int sys_tick_start(SysTick *t, SysTickSource source, int64_t period, uint32_t phase)
{
    int saved = errno, tid = sys_tid(), rc;
    sigset_t set, before;

    sys_tick_stop(t); /* another source has been tried */
    memset(t, 0, sizeof(*t));
    t->pid = (int)syscall(SYS_getpid);
    t->timer = t->fd = -1;
    t->phase = phase * 0x9E3779B9u; /* golden section: neighbours lie far apart */
    atomic_store(&t->nudge_fd, -1);
    sigemptyset(&set);
    sigaddset(&set, sys_tick_signal());
    pthread_sigmask(SIG_UNBLOCK, &set, &before);
    t->was_blocked = sigismember(&before, sys_tick_signal()) == 1;
    atomic_store(&t->tid, tid);
    if (source == SYS_TICK_TIMER)
        rc = tick_timer_open(t);
    else
        rc = t->fd = tick_perf_open(tid, SEC, FD_TICK);
    if (rc >= 0)
        rc = sys_tick_period(t, period);
    errno = saved;
    return rc < 0 ? rc : 0;
}

static void tick_nudge_close(int fd)
{
    if (fd < 0)
        return;
    fds_close(fd);
    atomic_fetch_sub(&nudges, 1);
}

/* What is pending for a thread is delivered at the latest when it returns from a
 * system call with the signal unblocked: after that nothing of ours is left, and
 * only then may perf's descriptors lose their names. */
void sys_tick_stop(SysTick *t)
{
    int saved = errno, nudge_fd = atomic_load(&t->nudge_fd);

    if (tick_is_here(t)) {
        if (t->timer >= 0)
            syscall(SYS_timer_delete, t->timer);
        if (t->fd >= 0)
            ioctl(t->fd, PERF_EVENT_IOC_DISABLE, 0);
        if (nudge_fd >= 0)
            ioctl(nudge_fd, PERF_EVENT_IOC_DISABLE, 0);
        sys_tick_block(false);
        fds_close(t->fd);
        tick_nudge_close(nudge_fd);
    }
    if (atomic_exchange(&t->tid, 0) != 0 && t->was_blocked)
        sys_tick_block(true);
    errno = saved;
}

bool sys_tick_block(bool on)
{
    sigset_t set, before;

    sigemptyset(&set);
    sigaddset(&set, sys_tick_signal());
    pthread_sigmask(on ? SIG_BLOCK : SIG_UNBLOCK, &set, &before);
    return sigismember(&before, sys_tick_signal()) == 1;
}

/* ---- from another thread ------------------------------------------------------- */

void sys_tick_poke(const SysTick *t)
{
    siginfo_t info;
    int saved = errno, tid = atomic_load(&t->tid);

    if (tid == 0 || !tick_is_here(t))
        return;
    memset(&info, 0, sizeof(info));
    info.si_signo = sys_tick_signal();
    info.si_code = SI_QUEUE;
    info.si_pid = t->pid;
    info.si_value.sival_ptr = &poke_mark;
    syscall(SYS_rt_tgsigqueueinfo, t->pid, tid, info.si_signo, &info);
    errno = saved;
}

static int tick_nudge_open(SysTick *t)
{
    int none = -1, fd = -EMFILE;

    if (atomic_fetch_add(&nudges, 1) < NUDGES)
        fd = tick_perf_open(atomic_load(&t->tid), NUDGE_NS, FD_NUDGE);
    if (fd < 0)
        atomic_fetch_sub(&nudges, 1);
    else if (!atomic_compare_exchange_strong(&t->nudge_fd, &none, fd)) {
        tick_nudge_close(fd); /* another thread nudges too, and was faster */
        fd = none;
    }
    return fd;
}

/* A nudge that is on its way has not been told from the host's signals yet. */
bool sys_tick_no_nudge(SysTick *t)
{
    int fd = atomic_load(&t->nudge_fd);

    if (fd < 0 || !tick_is_here(t) || !fds_change(fd, FD_NUDGE, FD_NUDGED))
        return false;
    atomic_store(&t->nudge_fd, -1);
    tick_nudge_close(fd);
    return true;
}

/* One at a time: the kernel would count them, and strike as often. */
static int tick_nudge_perf(SysTick *t)
{
    int rc = 0, fd = atomic_load(&t->nudge_fd);

    if (fd < 0)
        rc = fd = atomic_load(&tick_no_perf) ? -EPERM : tick_nudge_open(t);
    if (fd >= 0 && fds_change(fd, FD_NUDGE, FD_NUDGED)) {
        rc = ioctl(fd, PERF_EVENT_IOC_REFRESH, 1) == 0 ? 0 : -errno;
        if (rc < 0)
            fds_change(fd, FD_NUDGED, FD_NUDGE);
    }
    if (rc < 0 && rc != -EMFILE)
        atomic_store(&tick_no_perf, true);
    return rc < 0 ? rc : 0;
}

int sys_tick_nudge(SysTick *t)
{
    int saved = errno, rc;

    if (!tick_is_here(t))
        return -ESRCH;
    rc = tick_nudge_perf(t);
    if (rc < 0 && t->timer >= 0 && !atomic_exchange(&t->soon, true))
        tick_timer_soon(t);
    errno = saved;
    return rc;
}

/* Where the timer does the nudges as well, each puts the next tick off: a thread that is nudged again and again
 * would never see one. So count its CPU time. */
static bool tick_is_due(SysTick *t)
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    int64_t now = ts.tv_sec * SEC + ts.tv_nsec;
    bool due = now - t->ticked >= atomic_load(&t->period);
    if (due)
        t->ticked = now;
    return due;
}

bool sys_tick_seen(SysTick *t)
{
    int fd = atomic_load(&t->nudge_fd);

    if (fd >= 0)
        fds_change(fd, FD_NUDGED, FD_NUDGE);
    if (t->timer < 0 || !(atomic_load(&t->soon) || atomic_load(&tick_no_perf)))
        return false;
    bool due = tick_is_due(t);
    return atomic_exchange(&t->soon, false) && !due;
}
