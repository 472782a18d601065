/* SPDX-License-Identifier: MIT
 *
 * clock.c: the clock every deadline is on.
 */
#include "sys/sys.h"

#include <errno.h>
#include <time.h>

int64_t sys_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts); /* in the vDSO: no system call */
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void sys_sleep_until(int64_t when)
{
    if (when <= 0)
        return;
    struct timespec ts = {.tv_sec = (time_t)(when / 1000000000), .tv_nsec = when % 1000000000};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
        ; /* an absolute time: nothing to take off for what has been slept */
}
