/* SPDX-License-Identifier: MIT
 *
 * fatal.c: the end of a program that cannot go on, and warnings.
 *
 * "weft: fatal: <text>" in one write(2), a dump of all coroutines if a run is
 * on, exit status 2 by _exit(): no exit handlers and no stdio, which might wait
 * for a lock that a stopped coroutine holds. The texts are Go's where Go has one:
 *
 *   all coroutines are asleep - deadlock!                 idle.c
 *   no coroutines (main called weft_exit) - deadlock!     idle.c
 *   close of closed channel                               chan.c
 *   close of nil channel                                  chan.c
 *   sync: unlock of unlocked mutex                        mutex.c
 *   sync: RUnlock, Unlock of unlocked RWMutex             rwmutex.c
 *   sync: too many readers of an RWMutex                  rwmutex.c
 *   sync: negative WaitGroup counter                      wg.c
 *   sync: WaitGroup misuse: Add called concurrently with Wait
 *   sync: WaitGroup is reused before previous Wait has returned
 *   too many references to a channel                      chan.c
 *   a coroutine parks, yields while it has preemption disabled    sched.c
 *   weft_preempt_enable() without weft_preempt_disable(), ... nested too deeply    preempt.c
 *   weft_exit was not called by a coroutine               coro.c
 *   a ... at ... lies on the copied stack of ...          window.c
 *   ... in a forked child                                 calls that cannot return -ENOSYS
 * (These are for users: weft(7) says what each means. The rest is for us.)
 *   assertion failed: ... (file:line)                     rt_assert, --enable-debug
 *   lock order: ...                                       lock.c, --enable-debug
 *
 * A stack overflow is no fatal(): dump_overflow() reports it and the process
 * dies by its signal, so that a core dump and a waiting shell see what it was.
 *
 * Several threads may fail at once: the first one's tid goes into `dying` and
 * it alone reports; the others wait for the end. When the one that reports fails
 * again (a dump may meet the very damage it is to show), it ends at once. A
 * dump can also hang, on a lock that somebody held when the program failed:
 * the guard ends the process after some seconds.
 */
#include "cycles.h"
#include "report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

enum { FATAL_STATUS = 2, GUARD_SECONDS = 5 };

static _Atomic int dying;           /* tid of the thread that reports; 0: none */
static volatile bool die_by_signal; /* the guard ends the process by SIGSEGV */

/* One line, one write: lines of several threads do not mingle. */
static void fatal_line(const char *prefix, const char *fmt, va_list ap)
{
    char buf[512];
    int e = errno;
    size_t n = strlen(prefix);
    memcpy(buf, prefix, n);
    int len = vsnprintf(buf + n, sizeof(buf) - n - 1, fmt, ap);
    if (len > 0)
        n += (size_t)len < sizeof(buf) - n - 1 ? (size_t)len : sizeof(buf) - n - 2;
    buf[n++] = '\n';
    ssize_t done = write(STDERR_FILENO, buf, n);
    (void)done; /* nowhere to report that to */
    errno = e;
}

static void raise_segv(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGSEGV);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    raise(SIGSEGV);
}

/* The program's own handler first, which may want to write something down. */
void fatal_segv(void)
{
    sys_fault_remove();
    raise_segv();
    signal(SIGSEGV, SIG_DFL);
    raise_segv();
    _exit(FATAL_STATUS);
}

static void guard_fire(int sig)
{
    Out o;
    if (sig != SIGALRM)
        dump_on_fault();
    out_open(&o, STDERR_FILENO);
    out_str(&o, sig == SIGALRM ? "weft: the report hangs, given up\n"
                               : "weft: the report crashed, given up\n");
    out_flush(&o);
    if (!die_by_signal)
        _exit(FATAL_STATUS);
    signal(SIGSEGV, SIG_DFL);
    raise_segv();
}

void fatal_guard(bool by_signal)
{
    die_by_signal = by_signal;
    struct sigaction sa = {.sa_handler = guard_fire, .sa_flags = SA_ONSTACK};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    sigaction(SIGALRM, &sa, NULL);
    if (!by_signal) { /* in the handler of a fault the kernel sees to that */
        sigaddset(&set, SIGSEGV);
        sigaddset(&set, SIGBUS);
        sigaction(SIGSEGV, &sa, NULL);
        sigaction(SIGBUS, &sa, NULL);
    }
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    alarm(GUARD_SECONDS);
}

void fatal_unguard(void)
{
    alarm(0);
}

/* Returns in the one thread that is to report. */
static void fatal_enter(void)
{
    int tid = sys_tid(), first = 0;
    if (atomic_compare_exchange_strong(&dying, &first, tid))
        return;
    if (first == tid)
        _exit(FATAL_STATUS);
    for (;;) /* that thread ends the process */
        sys_sleep_until(sys_now() + 1000000000);
}

static _Noreturn void fatal_leave(void)
{
    /* In a forked child locks may be held for ever, and the Gs are not ours. */
    if (get_acq(&sched.active) && !get(&sched.forked)) {
        fatal_guard(false);
        if (get(&sched.deadlock))
            cycles_look(0);
        dump_all(STDERR_FILENO);
    }
    sys_share_drop();
    _exit(FATAL_STATUS);
}

void fatal(const char *fmt, ...)
{
    fatal_enter();
    va_list ap;
    va_start(ap, fmt);
    fatal_line("weft: fatal: ", fmt, ap);
    va_end(ap);
    fatal_leave();
}

void fatal_deadlock(void)
{
    if (weft_num_coroutines() == 0)
        fatal("no coroutines (main called weft_exit) - deadlock!");
    fatal("all coroutines are asleep - deadlock!");
}

void warn(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fatal_line("weft: ", fmt, ap);
    va_end(ap);
}
