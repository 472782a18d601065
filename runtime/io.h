/* SPDX-License-Identifier: MIT
 *
 * io.h: what the I/O calls have in common: io.c and net.c.
 */
#ifndef WEFT_IO_H
#define WEFT_IO_H

#include "fd.h"

#include <errno.h>

/* One public call. */
typedef struct {
    M *m; /* the caller's, after every wait anew; NULL: there is none */
    int saved_errno;
    FDRef f;
} IO;

/* The system call: its result or -errno, never -EINTR; -EAGAIN: wait. */
typedef ssize_t IOTry(IO *io, void *arg);

int io_enter(IO *io, int fd); /* fd < 0: without a descriptor. Leave also after an error */
ssize_t io_leave(IO *io, ssize_t rc);
ssize_t io_run(IO *io, unsigned dir, IOTry *attempt,
               void *arg); /* until it is done or must not wait */

#endif
