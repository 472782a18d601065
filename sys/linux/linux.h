/* SPDX-License-Identifier: MIT
 *
 * linux.h: between the files of sys/linux, and for their tests.
 */
#ifndef WEFT_SYS_LINUX_H
#define WEFT_SYS_LINUX_H

#include <stdbool.h>

/* The CPU limit of the process's cgroup and of those above it, rounded up; 0:
 * none. root is put before every path: "" but in tests. cgroup.c */
int cgroup_cpu_limit(const char *root);

/* Descriptors of ours, by what they are for. fds.c */
enum FdKind {
    FD_NOT_OURS,
    FD_TICK,  /* perf: a thread's tick */
    FD_NUDGE, /* perf: one overflow when asked for */
    FD_NUDGED /* the same, asked for and still to come */
};
int fds_own(int fd, enum FdKind kind); /* fd; -EMFILE, -ENOMEM: closed */
enum FdKind fds_kind(int fd);          /* (s) any number */
bool fds_change(int fd, enum FdKind from,
                enum FdKind to); /* (s) one of ours; false: it was not `from` */
void fds_close(int fd);          /* not ours (a forked child's): nothing */

/* For tests, to be set before first use: behave as on an older kernel. */
extern bool poller_no_pwait2;     /* before 5.11 */

#endif
