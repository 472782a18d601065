/* SPDX-License-Identifier: MIT
 *
 * copied_group.c: a group on a copied stack is refused, before its coroutines count there. */
#include "victim.h"

static int kid(void *arg)
{
    (void)arg;
    return 0;
}

static void owner(void *arg)
{
    weft_group_t g = {{0}};
    (void)arg;
    weft_group_go(&g, kid, NULL);
    weft_group_wait(&g);
}

int main(void)
{
    return victim_run((Victim){.attr = {.name = "owner", .stack = WEFT_STACK_COPIED}, .fn = owner});
}
