/* SPDX-License-Identifier: MIT
 *
 * park.c: the park word, a private futex.
 *
 * No wake-up is lost: the kernel compares *word with val and queues the caller
 * under the lock of the word's hash bucket, which a wake takes as well. A waker
 * that changes the word first and then wakes is therefore seen either by the
 * comparison or by the queue.
 */
#include "sys/sys.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* FUTEX_WAIT_BITSET, as FUTEX_WAIT would take a relative time. */
int sys_park(_Atomic uint32_t *word, uint32_t val, int64_t deadline)
{
    struct timespec ts, *timeout = NULL;
    int saved = errno, rc = 0;

    if (deadline != 0) {
        if (deadline < 0)
            deadline = 1; /* long past; a negative one would be EINVAL */
        ts.tv_sec = (time_t)(deadline / 1000000000);
        ts.tv_nsec = deadline % 1000000000;
        timeout = &ts;
    }
    if (syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, val, timeout, NULL,
                FUTEX_BITSET_MATCH_ANY) != 0 &&
        errno == ETIMEDOUT)
        rc = -ETIMEDOUT;
    errno = saved;
    return rc;
}

void sys_unpark(_Atomic uint32_t *word, int n)
{
    int saved = errno;

    syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, n, NULL, NULL, 0);
    errno = saved; /* EFAULT, when the sleeper has gone and its memory with it: harmless */
}
