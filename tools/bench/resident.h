/* SPDX-License-Identifier: MIT
 *
 * resident.h: the memory that a process has, for the benchmarks. */
#ifndef BENCH_RESIDENT_H
#define BENCH_RESIDENT_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

/* In bytes: resident memory, and page tables, of which stacks far apart need many. */
typedef struct {
    double rss, pte;
} Memory;

static inline Memory memory(pid_t of)
{
    char name[64], line[256];
    Memory m = {0};
    snprintf(name, sizeof name, "/proc/%d/status", (int)of);
    FILE *f = fopen(name, "r");
    if (f == NULL) {
        perror(name);
        exit(1);
    }
    while (fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "VmRSS: %lf", &m.rss) != 1)
            (void)sscanf(line, "VmPTE: %lf", &m.pte);
    fclose(f);
    m.rss *= 1024;
    m.pte *= 1024;
    return m;
}

#endif
