/* SPDX-License-Identifier: MIT
 *
 * fork.c: a say in every fork(). Handlers cannot be taken back: register once.
 */
#include "sys/sys.h"

int sys_atfork(void (*before)(void), void (*parent)(void), void (*child)(void))
{
    return -pthread_atfork(before, parent, child);
}
