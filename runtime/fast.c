/* SPDX-License-Identifier: MIT
 *
 * fast.c: the exported functions that weft/inline.h also defines inline, from the same text: for programs that are
 * not optimised, for bindings, for who takes an address.
 *
 * How the words are used is said where the rest of each object is: mutex.c, rwmutex.c, cond.c (once),
 * weighted.c, wg.c. These include weft.h without the inline functions, and check that their layout is the
 * one of the ABI note there.
 */
#include "config.h"

#define WEFT_KEEP_ERRNO
#define WEFT_INLINE
#include "weft.h"
