/* SPDX-License-Identifier: MIT
 *
 * posix.h: between the files of sys/posix and those of sys/<os>.
 */
#ifndef WEFT_SYS_POSIX_H
#define WEFT_SYS_POSIX_H

#include <signal.h>
#include <stdbool.h>

/* ---- chain.c: a signal handler among others ---- */
typedef void ChainHandler(int sig, siginfo_t *info, void *uc);
/* Put h in front of what handles sig now: on the alternate stack, restarting system calls, with only
 * sig itself blocked. -EINVAL: not a signal that can be handled. */
int chain_install(int sig, ChainHandler *h);
void chain_remove(int sig, ChainHandler *h); /* what was there before, unless someone replaced h */
bool chain_on_top(int sig, ChainHandler *h); /* h is what the kernel calls */
bool chain_has_previous(int sig);            /* (s) somebody's function was there before */
/* (s) h's answer to a signal that is not for it: what would have happened without h. repeats: the
 * instruction raises the signal again when the handler has returned. */
void chain_pass_on(int sig, siginfo_t *info, void *uc, bool repeats);

#endif
