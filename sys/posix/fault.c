/* SPDX-License-Identifier: MIT
 *
 * fault.c: SIGSEGV and SIGBUS, and the alternate stack they are handled on.
 *
 * What is not ours goes on to whatever was there before: chain.c.
 *
 * fault_fn is written by install and remove and read by handlers on any thread:
 * release pairs with acquire, since what fn needs was set up before install.
 */
#include "sys/sys.h"
#include "sys/posix/posix.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <sys/auxv.h>

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

enum { NFAULTS = 2 };
static const int fault_signals[NFAULTS] = {SIGSEGV, SIGBUS};
static _Atomic(SysFaultFn) fault_fn;

/* A fault (si_code > 0) repeats by itself; a signal that somebody sent is never ours. */
static void fault_handler(int sig, siginfo_t *info, void *uc)
{
    int saved = errno;
    SysFaultFn fn = atomic_load_explicit(&fault_fn, memory_order_acquire); /* pairs with install */

    if (fn == NULL || info->si_code <= 0 || !fn(info->si_addr, uc))
        chain_pass_on(sig, info, uc, info->si_code > 0);
    errno = saved;
}

int sys_fault_install(SysFaultFn fn)
{
    atomic_store_explicit(&fault_fn, fn, memory_order_release); /* pairs with the handler */
    for (int i = 0; i < NFAULTS; i++) {
        int rc = chain_install(fault_signals[i], fault_handler);
        if (rc != 0) {
            sys_fault_remove();
            return rc;
        }
    }
    return 0;
}

void sys_fault_remove(void)
{
    atomic_store_explicit(&fault_fn, NULL, memory_order_release); /* pairs with the handler */
    for (int i = 0; i < NFAULTS; i++)
        chain_remove(fault_signals[i], fault_handler);
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
