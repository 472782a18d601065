/* SPDX-License-Identifier: MIT */
/* While a channel listens to a signal nobody is deadlocked; once none does, whoever waits is. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include <weft.h>

static int entry(void *arg)
{
    int signo = 0;
    weft_chan_t *c = weft_chan_make(sizeof signo, 1);
    (void)arg;
    if (weft_signal_notify(c, SIGALRM) != 0)
        return 1;
    alarm(1);
    if (weft_recv(c, &signo) != 1 || signo != SIGALRM || weft_signal_stop(c) != 0)
        return 1;
    fputs("the alarm has come\n", stderr);
    return weft_recv(c, &signo);
}

int main(void)
{
    return weft_run(entry, NULL);
}
