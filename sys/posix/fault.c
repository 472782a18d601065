/* SPDX-License-Identifier: MIT
 *
 * fault.c: SIGSEGV and SIGBUS, and the alternate stack they are handled on.
 *
 * A guest's rules. The process may have handlers of its own (a debugger's stub,
 * a JIT, a crash reporter): what is not ours goes to the handler that was there
 * before, called as it asked to be called. Where there was none the default
 * action is put back and the handler returns, so that the instruction faults
 * again and the core dump shows the real place. If someone has installed theirs
 * over ours by the time we leave, ours stays, passing everything on: they may
 * hold its address.
 *
 * fault_fn is written by install and remove and read by handlers on any thread:
 * release pairs with acquire, since what fn needs was set up before install.
 * previous[] is written before the first sigaction() that makes the handler
 * reachable, and again only while ours is out of the chain.
 */
#include "sys/sys.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <sys/auxv.h>

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

enum { NFAULTS = 2 };
static const int fault_signals[NFAULTS] = {SIGSEGV, SIGBUS};
static struct sigaction previous[NFAULTS];
static bool in_chain[NFAULTS]; /* ours has been installed and not been taken out since */
static _Atomic(SysFaultFn) fault_fn;

/* Die as if no handler had been there. A fault repeats by itself once the
 * handler has returned; a signal that was sent (si_code <= 0) must be sent
 * again: it is blocked until then. */
static void fault_default(int sig, const siginfo_t *info)
{
    struct sigaction dfl = {.sa_handler = SIG_DFL};

    sigaction(sig, &dfl, NULL);
    if (info->si_code <= 0)
        raise(sig);
}

static void fault_pass_on(int sig, siginfo_t *info, void *uc, const struct sigaction *prev)
{
    if (prev->sa_flags & SA_SIGINFO)
        prev->sa_sigaction(sig, info, uc);
    else if (prev->sa_handler == SIG_IGN && info->si_code <= 0)
        return; /* sent and ignored; the kernel lets nobody ignore a real fault */
    else if (prev->sa_handler == SIG_DFL || prev->sa_handler == SIG_IGN)
        fault_default(sig, info);
    else
        prev->sa_handler(sig);
}

static void fault_handler(int sig, siginfo_t *info, void *uc)
{
    int saved = errno;
    SysFaultFn fn = atomic_load_explicit(&fault_fn, memory_order_acquire); /* pairs with install */

    if (fn == NULL || info->si_code <= 0 || !fn(info->si_addr, uc))
        fault_pass_on(sig, info, uc, &previous[sig == SIGBUS]);
    errno = saved;
}

static bool fault_is_ours(const struct sigaction *sa)
{
    return (sa->sa_flags & SA_SIGINFO) && sa->sa_sigaction == fault_handler;
}

static bool fault_is_none(const struct sigaction *sa)
{
    return !(sa->sa_flags & SA_SIGINFO) && (sa->sa_handler == SIG_DFL || sa->sa_handler == SIG_IGN);
}

/* Where someone else's handler sits over ours, ours is left where it is: put on
 * top as well, it would be called a second time by theirs, for ever. */
static int fault_install_one(int i)
{
    struct sigaction cur,
        sa = {.sa_sigaction = fault_handler, .sa_flags = SA_ONSTACK | SA_SIGINFO | SA_RESTART};

    sigemptyset(&sa.sa_mask);
    if (sigaction(fault_signals[i], NULL, &cur) != 0)
        return -errno;
    if (fault_is_ours(&cur) || (in_chain[i] && !fault_is_none(&cur)))
        return 0;
    previous[i] = cur;
    if (sigaction(fault_signals[i], &sa, NULL) != 0)
        return -errno;
    in_chain[i] = true;
    return 0;
}

int sys_fault_install(SysFaultFn fn)
{
    atomic_store_explicit(&fault_fn, fn, memory_order_release); /* pairs with the handler */
    for (int i = 0; i < NFAULTS; i++) {
        int rc = fault_install_one(i);
        if (rc != 0) {
            sys_fault_remove();
            return rc;
        }
    }
    return 0;
}

void sys_fault_remove(void)
{
    struct sigaction cur;

    atomic_store_explicit(&fault_fn, NULL, memory_order_release); /* pairs with the handler */
    for (int i = 0; i < NFAULTS; i++) {
        if (!in_chain[i] || sigaction(fault_signals[i], NULL, &cur) != 0 || !fault_is_ours(&cur))
            continue;
        sigaction(fault_signals[i], &previous[i], NULL);
        in_chain[i] = false;
    }
}

/* ---- the alternate stack ------------------------------------------------- */

/* What the thread had before: a host's own, or a sanitizer's, which unmaps
 * whatever it finds installed when the thread ends. */
static _Thread_local stack_t altstack_before;
static _Thread_local void *altstack_ours;

/* Room for the kernel's frame, which AMX makes 11 KiB long, and for a report. */
size_t sys_altstack_size(void)
{
    size_t frame = getauxval(AT_MINSIGSTKSZ);

    if (frame < (size_t)MINSIGSTKSZ)
        frame = (size_t)MINSIGSTKSZ;
    return (frame + 64 * 1024 + 4095) & ~(size_t)4095;
}

int sys_altstack_set(void *mem, size_t size)
{
    stack_t ss = {.ss_sp = mem, .ss_size = size};

    if (sigaltstack(&ss, &altstack_before) != 0)
        return -errno;
    altstack_ours = mem;
    return 0;
}

void sys_altstack_clear(void)
{
    stack_t cur;

    if (altstack_ours == NULL)
        return;
    if (sigaltstack(NULL, &cur) == 0 && cur.ss_sp == altstack_ours) {
        if (altstack_before.ss_flags & SS_DISABLE) /* the size is checked even so by some kernels */
            altstack_before.ss_size = (size_t)MINSIGSTKSZ;
        sigaltstack(&altstack_before, NULL);
    }
    altstack_ours = NULL;
}
