/* SPDX-License-Identifier: MIT
 *
 * sendfile.c: from a file to another descriptor, inside the kernel.
 *
 * sendfile(2) has no MSG_NOSIGNAL: a socket whose other end is gone raises SIGPIPE in the calling
 * thread. So that signal is blocked around the call, and taken off the thread when it has been
 * raised, unless one was pending already: that one is somebody else's.
 */
#include "sys/sys.h"

#include <errno.h>
#include <sys/sendfile.h>
#include <time.h>

static bool sendfile_pending(const sigset_t *before)
{
    sigset_t set;

    return sigismember(before, SIGPIPE) == 1 && sigpending(&set) == 0 &&
           sigismember(&set, SIGPIPE) == 1;
}

ssize_t sys_sendfile(int out, int in, off_t *at, size_t len)
{
    const struct timespec none = {0, 0};
    int saved = errno;
    sigset_t pipe, before;

    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
    bool pending = sendfile_pending(&before);
    ssize_t n = sendfile(out, in, at, len);
    if (n < 0)
        n = -errno;
    if (n == -EPIPE && !pending)
        sigtimedwait(&pipe, NULL, &none);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = saved;
    return n;
}
