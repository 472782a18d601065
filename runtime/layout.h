/* SPDX-License-Identifier: MIT
 *
 * layout.h: what a debugger is told of the runtime's data. See layout.c.
 */
#ifndef WEFT_LAYOUT_H
#define WEFT_LAYOUT_H

#include "rt.h"

/* One name, and the offset of a field with its size, or a constant, or an address. An empty name
 * ends a list. */
typedef struct {
    uint64_t value;
    uint32_t size;
    char name[28];
} Layout;

#define LAYOUT_FIELD(type, member)                                                                 \
    {                                                                                              \
        offsetof(type, member), sizeof(((type *)NULL)->member), #type "." #member                  \
    }
#define LAYOUT_SIZE(type)                                                                          \
    {                                                                                              \
        sizeof(type), 0, #type                                                                     \
    }
#define LAYOUT_CONST(c)                                                                            \
    {                                                                                              \
        c, 0, #c                                                                                   \
    }
#define LAYOUT_ADDRESS(name, p)                                                                    \
    {                                                                                              \
        (uintptr_t)(p), 0, name                                                                    \
    }

extern const Layout coro_layout[]; /* coro.c: where Gs are */

/* All lists; NULL ends them. The one exported symbol that is data, and that weft.h does not have. */
extern const Layout *const weft_private_layout[] __attribute__((visibility("default")));

#endif
