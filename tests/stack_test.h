/* SPDX-License-Identifier: MIT
 *
 * stack_test.h: the harness's switch between private and copied stacks.
 *
 * WEFT_TEST_STACK=copied makes copied stacks the default in the tests that can stand it. One whose coroutines
 * share their locals says so by private_only(), with the reason. Never the library's switch: where a stack lies is
 * a contract about pointers. */
#ifndef STACK_TEST_H
#define STACK_TEST_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "weft.h"

static const char *why_private;

static inline void private_only(const char *why)
{
    why_private = why;
}

static inline int test_stack(void)
{
    const char *s = getenv("WEFT_TEST_STACK");
    bool copied = s != NULL && strcmp(s, "copied") == 0 && why_private == NULL;
    return copied ? WEFT_STACK_COPIED : WEFT_STACK_PRIVATE;
}

#endif
