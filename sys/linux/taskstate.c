/* SPDX-License-Identifier: MIT
 *
 * taskstate.c: does a thread run, or is it blocked in the kernel?
 *
 * Linux says so in /proc only. /proc/self/task/<tid>/stat is kept open: the path
 * is walked once, and a later thread of the same number is not mistaken for this
 * one (reads fail with ESRCH then). Whatever the answer, it is already old.
 */
#include "sys/sys.h"
#include "sys/linux/linux.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int sys_task_state_open(int tid)
{
    char path[64];
    int saved = errno;

    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 ? -errno : fds_own(fd, FD_TASK);
    errno = saved;
    return rc;
}

/* "tid (name) S ...": the name is 15 bytes of anything, so look for the last ')';
 * what follows the state is numbers. */
int sys_task_runs(int fd)
{
    char buf[64];
    int saved = errno;
    ssize_t n = pread(fd, buf, sizeof(buf), 0);
    int rc = n < 0 ? -errno : -EIO;

    errno = saved;
    for (ssize_t i = n - 3; i > 0; i--)
        if (buf[i] == ')')
            return buf[i + 2] == 'R';
    return rc;
}

void sys_task_state_close(int fd)
{
    fds_close(fd);
}

/* "number argument... sp pc", or "-1 sp pc", or "running". */
uintptr_t sys_task_pc(int tid)
{
    char path[64], buf[256];
    int saved = errno;

    snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);
    if (fd >= 0)
        close(fd);
    errno = saved;
    buf[n < 0 ? 0 : n] = '\0';
    const char *last = strrchr(buf, ' ');
    return last != NULL ? (uintptr_t)strtoull(last + 1, NULL, 16) : 0;
}
