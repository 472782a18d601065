/* SPDX-License-Identifier: MIT
 *
 * signals.c: the program's own signals, for who wants to be told of them; and a bell that a handler
 * can ring.
 *
 * One handler for all of them, in front of what was there before (chain.c). A signal that nobody
 * watches any more when the handler looks goes to what was there before: it came while the handler
 * was being taken out, or somebody who had put theirs over ours calls it.
 *
 * The bell is a pipe. A full one needs no further byte: whoever waits for it has not come yet.
 * signals_fn and bell are written before a handler that reads them is installed.
 */
#include "sys/sys.h"
#include "sys/posix/posix.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static _Atomic(SysSignalFn) signals_fn;
static int bell[2] = {-1, -1};

static void signals_handler(int sig, siginfo_t *info, void *uc)
{
    int saved = errno;
    SysSignalFn fn = atomic_load_explicit(&signals_fn, memory_order_acquire); /* pairs with watch */

    if (fn == NULL || !fn(sig))
        chain_pass_on(sig, info, uc, false);
    errno = saved;
}

/* Not: what cannot be handled; what an instruction raises, since it would be executed again; the
 * tick's. */
static bool signals_may_watch(int signo)
{
    static const int no[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGKILL, SIGSTOP};

    for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
        if (signo == no[i])
            return false;
    return signo > 0 && signo <= SYS_SIGNALS && signo < _NSIG && signo != sys_tick_signal();
}

int sys_signal_watch(int signo, SysSignalFn fn)
{
    int saved = errno;

    if (!signals_may_watch(signo))
        return -EINVAL;
    atomic_store_explicit(&signals_fn, fn, memory_order_release); /* pairs with the handler */
    int rc = chain_install(signo, signals_handler);
    errno = saved;
    return rc;
}

void sys_signal_unwatch(int signo)
{
    int saved = errno;

    chain_remove(signo, signals_handler);
    errno = saved;
}

/* ---- the bell ----------------------------------------------------------------- */

int sys_bell_open(void)
{
    int saved = errno, rc = 0;

    if (pipe2(bell, O_CLOEXEC | O_NONBLOCK) != 0) {
        rc = -errno;
        bell[0] = bell[1] = -1;
    }
    errno = saved;
    return rc != 0 ? rc : bell[0];
}

void sys_bell_close(void)
{
    int saved = errno;

    close(bell[0]);
    close(bell[1]);
    errno = saved;
}

void sys_bell_ring(void)
{
    int saved = errno;

    while (write(bell[1], "", 1) < 0 && errno == EINTR)
        ;
    errno = saved;
}

int sys_bell_hush(void)
{
    char buf[64];
    int saved = errno, rang = -EAGAIN;
    ssize_t n;

    while ((n = read(bell[0], buf, sizeof(buf))) > 0 || (n < 0 && errno == EINTR))
        if (n > 0)
            rang = 0;
    errno = saved;
    return rang;
}
