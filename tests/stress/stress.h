/* SPDX-License-Identifier: MIT
 *
 * stress.h: what the stress tests have in common. */
#ifndef STRESS_H
#define STRESS_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static inline void die(const char *what, int line)
{
    fprintf(stderr, "%s: line %d: %s\n", program_invocation_short_name, line, what);
    abort();
}
#define OK(x) ((x) ? (void)0 : die(#x, __LINE__))

/* A random number of 24 bits. */
static inline uint32_t next(uint32_t *s)
{
    *s = *s * 1664525u + 1013904223u;
    return *s >> 8;
}

/* How long a test is to last. */
static inline double stress_seconds(void)
{
    const char *s = getenv("WEFT_STRESS_SECONDS");
    return s != NULL ? atof(s) : 2;
}

#endif
