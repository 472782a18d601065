/* SPDX-License-Identifier: MIT
 *
 * copied_trespass.c: WEFT_DEBUG=stackshare names who touches a parked copied stack, and whose it is. */
#include <weft.h>

#include <stdlib.h>

static const int64_t MS = 1000000;
static int *leak;

static void owner(void *arg)
{
    int x = 5;
    (void)arg;
    leak = &x;
    weft_sleep(60000 * MS);
    leak = NULL;
}

static void thief(void *arg)
{
    (void)arg;
    while (leak == NULL)
        weft_yield();
    weft_sleep(20 * MS);
    if (*(volatile int *)leak != 5)
        weft_yield();
}

static int entry(void *arg)
{
    weft_attr_t attr = {.name = "owner", .stack = WEFT_STACK_COPIED};
    if (weft_go_with(&attr, owner, arg) != 0)
        return 3;
    attr.name = "thief";
    if (weft_go_with(&attr, thief, arg) != 0)
        return 3;
    weft_sleep(60000 * MS);
    return 4;
}

int main(void)
{
    setenv("WEFT_DEBUG", "stackshare", 1);
    return weft_run(entry, NULL);
}
