/* SPDX-License-Identifier: MIT
 *
 * fork.c: a say in every child. Handlers cannot be taken back: register once.
 */
#include "sys/sys.h"

int sys_atfork_child(void (*fn)(void))
{
    return -pthread_atfork(NULL, NULL, fn);
}
