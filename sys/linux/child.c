/* SPDX-License-Identifier: MIT
 *
 * child.c: a descriptor for the end of a child process (Linux 5.3).
 *
 * It becomes readable when the process has ended, all its threads included, whether it has been
 * waited for or not; the number is not used again while the child is still to be waited for.
 */
#include "sys/sys.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434 /* the same number on every CPU */
#endif

int sys_child_open(pid_t pid)
{
    int saved = errno, fd = (int)syscall(SYS_pidfd_open, pid, 0); /* close-on-exec */

    if (fd < 0)
        fd = -errno;
    errno = saved;
    return fd;
}
