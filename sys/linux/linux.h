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

/* For tests, to be set before first use: behave as on an older kernel. */
extern bool memory_no_pte_guards; /* before 6.13 */
extern bool poller_no_pwait2;     /* before 5.11 */

#endif
