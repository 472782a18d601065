/* SPDX-License-Identifier: MIT
 *
 * fds.c: the descriptors that are ours, and what each is for.
 *
 * Two readers need them by number. A signal handler is told only the number of
 * the descriptor that raised its signal, and the host may use that signal for
 * descriptors of its own. And a forked child must close what belongs to threads
 * it does not have. Hence a table of bytes, indexed by number: one load, no lock.
 * 64 KiB of address space; only the pages in use exist.
 *
 * A number's entry is written by whoever owns the descriptor, after opening and
 * before closing it, so no entry ever names somebody else's (a host that closes
 * descriptors it did not open is beyond help). Between open and fds_own() a
 * fork in another thread leaves the child one descriptor more; exec closes it.
 */
#include "sys/sys.h"
#include "sys/linux/linux.h"

#include <errno.h>
#include <unistd.h>

enum { FDS_MAX = 1 << 16 };
static _Atomic uint8_t fds_kinds[FDS_MAX];
static _Atomic int fds_end; /* no entry at or beyond; only grows */
static _Atomic bool fds_watched;

static void fds_in_child(void)
{
    int end = atomic_load(&fds_end);

    for (int fd = 0; fd < end; fd++)
        if (atomic_load(&fds_kinds[fd]) != FD_NOT_OURS)
            fds_close(fd);
}

int fds_own(int fd, enum FdKind kind)
{
    int rc = 0, end = atomic_load(&fds_end);

    if (fd >= FDS_MAX)
        rc = -EMFILE;
    else if (!atomic_exchange(&fds_watched, true)) /* twice would do no harm */
        rc = sys_atfork(NULL, NULL, fds_in_child);
    if (rc != 0) {
        if (rc != -EMFILE)
            atomic_store(&fds_watched, false);
        close(fd);
        return rc;
    }
    while (end <= fd && !atomic_compare_exchange_weak(&fds_end, &end, fd + 1))
        ;
    atomic_store(&fds_kinds[fd], kind);
    return fd;
}

enum FdKind fds_kind(int fd)
{
    return fd < 0 || fd >= FDS_MAX ? FD_NOT_OURS : (enum FdKind)atomic_load(&fds_kinds[fd]);
}

bool fds_change(int fd, enum FdKind from, enum FdKind to)
{
    uint8_t kind = (uint8_t)from;

    return atomic_compare_exchange_strong(&fds_kinds[fd], &kind, (uint8_t)to);
}

void fds_close(int fd)
{
    if (fds_kind(fd) == FD_NOT_OURS)
        return;
    atomic_store(&fds_kinds[fd], FD_NOT_OURS);
    close(fd);
}
