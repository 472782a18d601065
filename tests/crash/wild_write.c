/* SPDX-License-Identifier: MIT
 *
 * wild_write.c: a fault that has nothing to do with stacks, in a coroutine, goes
 * to the handler that was there before the runtime.
 */
#include "weft.h"

#include <signal.h>
#include <unistd.h>

static void handler(int sig, siginfo_t *info, void *uc)
{
    static const char text[] = "the program's own handler\n";
    (void)uc;
    if (sig == SIGSEGV && info->si_addr == (void *)64)
        (void)!write(2, text, sizeof text - 1);
    _exit(7);
}

static int entry(void *arg)
{
    *(volatile int *)arg = 1;
    return 0;
}

int main(void)
{
    struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &sa, NULL);
    return weft_run(entry, (void *)64);
}
