/* SPDX-License-Identifier: MIT
 *
 * objects_test.h: objects of the sync family that nobody uses any more are as at first, save for the bits that say
 * that they may be locked in line. */
#ifndef OBJECTS_TEST_H
#define OBJECTS_TEST_H

#include <stdbool.h>
#include <string.h>
#include <weft.h>

static inline bool rwmutex_unused(const weft_rwmutex_t *x)
{
    weft_rwmutex_t zero = {{0}}, it = *x;
    it.opaque[0] &= ~(uint32_t)WEFT_ABI_MUTEX_READY;
    it.opaque[2] &= ~(uint32_t)WEFT_ABI_RWMUTEX_READY;
    return memcmp(&it, &zero, sizeof it) == 0;
}

#endif
