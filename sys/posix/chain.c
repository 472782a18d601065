/* SPDX-License-Identifier: MIT
 *
 * chain.c: handlers of ours in a process that has its own.
 *
 * A guest's rules. The process may have handlers for the signals that we use (a
 * debugger's stub, a JIT, a crash reporter, a server that reads urgent data):
 * what is not ours goes to the handler that was there before, called as it asked
 * to be: with its mask, and once only if it said SA_RESETHAND. Two of its wishes
 * cannot be kept: it runs on the alternate stack, and system calls are restarted,
 * as the flags in force are ours. Where there was none the default action follows.
 * To die, the default is put back, so that a fault repeats and the core dump shows
 * the real place; a signal that was sent is sent again.
 *
 * If someone has installed theirs over ours by the time we leave, ours stays,
 * passing everything on: they may hold its address. For the same reason ours is
 * not put on top of theirs when we come back: theirs would call it, and it theirs,
 * for ever.
 *
 * previous is written before the sigaction() that makes our handler reachable, and
 * again only while ours is out of the chain. Installing and removing are the
 * caller's to serialise; spent is the only field that handlers write.
 */
#include "sys/posix/posix.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

static struct {
    struct sigaction previous;
    bool in_chain;      /* ours has been installed and not been taken out since */
    _Atomic bool spent; /* previous was to be called once, and has been */
} chain[_NSIG];

static bool chain_is(const struct sigaction *sa, ChainHandler *h)
{
    return (sa->sa_flags & SA_SIGINFO) && sa->sa_sigaction == h;
}

static bool chain_is_none(const struct sigaction *sa)
{
    return !(sa->sa_flags & SA_SIGINFO) && (sa->sa_handler == SIG_DFL || sa->sa_handler == SIG_IGN);
}

static bool chain_ignored_by_default(int sig)
{
    return sig == SIGURG || sig == SIGWINCH || sig == SIGCHLD || sig == SIGCONT;
}

/* As if no handler had been there. raise() takes effect when the handler has
 * returned, since the signal is blocked until then. */
static void chain_default(int sig, bool repeats)
{
    struct sigaction dfl = {.sa_handler = SIG_DFL};

    if (chain_ignored_by_default(sig))
        return;
    sigaction(sig, &dfl, NULL);
    if (!repeats)
        raise(sig);
}

static void chain_call(int sig, siginfo_t *info, void *uc, const struct sigaction *prev)
{
    sigset_t self, before;

    pthread_sigmask(SIG_BLOCK, &prev->sa_mask, &before);
    if (prev->sa_flags & SA_NODEFER) {
        sigemptyset(&self);
        sigaddset(&self, sig);
        pthread_sigmask(SIG_UNBLOCK, &self, NULL);
    }
    if (prev->sa_flags & SA_SIGINFO)
        prev->sa_sigaction(sig, info, uc);
    else
        prev->sa_handler(sig);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void chain_pass_on(int sig, siginfo_t *info, void *uc, bool repeats)
{
    const struct sigaction *prev = &chain[sig].previous;
    bool none = chain_is_none(prev);

    if (none && prev->sa_handler == SIG_IGN && !repeats)
        return; /* the kernel lets nobody ignore a real fault */
    if (none || ((prev->sa_flags & (int)SA_RESETHAND) && atomic_exchange(&chain[sig].spent, true)))
        chain_default(sig, repeats);
    else
        chain_call(sig, info, uc, prev);
}

bool chain_has_previous(int sig)
{
    return !chain_is_none(&chain[sig].previous) && !atomic_load(&chain[sig].spent);
}

bool chain_on_top(int sig, ChainHandler *h)
{
    struct sigaction cur;

    return sigaction(sig, NULL, &cur) == 0 && chain_is(&cur, h);
}

int chain_install(int sig, ChainHandler *h)
{
    struct sigaction cur,
        sa = {.sa_sigaction = h, .sa_flags = SA_ONSTACK | SA_SIGINFO | SA_RESTART};

    if (sig <= 0 || sig >= _NSIG)
        return -EINVAL;
    sigemptyset(&sa.sa_mask);
    if (sigaction(sig, NULL, &cur) != 0)
        return -errno;
    if (chain_is(&cur, h) || (chain[sig].in_chain && !chain_is_none(&cur)))
        return 0;
    chain[sig].previous = cur;
    atomic_store(&chain[sig].spent, false);
    if (sigaction(sig, &sa, NULL) != 0)
        return -errno;
    chain[sig].in_chain = true;
    return 0;
}

void chain_remove(int sig, ChainHandler *h)
{
    struct sigaction dfl = {.sa_handler = SIG_DFL};

    if (!chain[sig].in_chain || !chain_on_top(sig, h))
        return;
    sigaction(sig, atomic_load(&chain[sig].spent) ? &dfl : &chain[sig].previous, NULL);
    chain[sig].in_chain = false;
}
