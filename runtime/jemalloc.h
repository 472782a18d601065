/* SPDX-License-Identifier: MIT
 *
 * jemalloc.h: what alloc.c and block.c use of jemalloc, if the program has it. As in
 * <jemalloc/jemalloc.h>, whose declarations are not weak. Each of them asks for all that it
 * uses itself, as a program may have one part and not the other. */
#ifndef WEFT_JEMALLOC_H
#define WEFT_JEMALLOC_H

#include <stddef.h>

extern void *mallocx(size_t size, int flags) __attribute__((weak));
extern void *rallocx(void *p, size_t size, int flags) __attribute__((weak));
extern void dallocx(void *p, int flags) __attribute__((weak));
extern void sdallocx(void *p, size_t size, int flags) __attribute__((weak));
extern size_t nallocx(size_t size, int flags) __attribute__((weak));
extern int mallctl(const char *name, void *old, size_t *oldlen, void *new, size_t newlen)
    __attribute__((weak));

/* The interface's flag encoding: it is part of jemalloc's ABI since 3.5. */
#define JE_ARENA(a) ((int)(((a) + 1) << 20))
#define JE_TCACHE(t) ((int)(((t) + 2) << 8))
#define JE_NO_TCACHE JE_TCACHE(-1)
#define JE_ALIGN(a) (__builtin_ctzl(a))
enum { JE_ZERO = 0x40 };

#endif
