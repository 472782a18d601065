/* SPDX-License-Identifier: MIT
 *
 * taskstate.c: does a thread run, or is it blocked in the kernel?
 *
 * Linux says so in /proc only. Whatever the answer, it is already old.
 */
#include "sys/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* n bytes of /proc/self/task/<tid>/<name>, at most: how many, or -errno. errno stays. */
static ssize_t task_file(int tid, const char *name, char *buf, size_t n)
{
    char path[64];
    int saved = errno;

    snprintf(path, sizeof(path), "/proc/self/task/%d/%s", tid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t rc = fd < 0 ? -1 : read(fd, buf, n);
    if (rc < 0)
        rc = -errno;
    if (fd >= 0)
        close(fd);
    errno = saved;
    return rc;
}

/* "tid (name) S ...": the name is 15 bytes of anything, so look for the last ')';
 * what follows the state is numbers. */
int sys_task_runs(int tid)
{
    char buf[64];
    ssize_t n = task_file(tid, "stat", buf, sizeof(buf));

    for (ssize_t i = n - 3; i > 0; i--)
        if (buf[i] == ')')
            return buf[i + 2] == 'R';
    return n < 0 ? (int)n : -EIO;
}

/* "number argument... sp pc", or "-1 sp pc", or "running". */
uintptr_t sys_task_pc(int tid, uintptr_t *sp)
{
    char buf[256];
    ssize_t n = task_file(tid, "syscall", buf, sizeof(buf) - 1);

    buf[n < 0 ? 0 : n] = '\0';
    char *last = strrchr(buf, ' ');
    if (last == NULL)
        return 0;
    *last = '\0';
    const char *before = strrchr(buf, ' ');
    if (sp != NULL)
        *sp = before != NULL ? (uintptr_t)strtoull(before + 1, NULL, 16) : 0;
    return (uintptr_t)strtoull(last + 1, NULL, 16);
}
