/* SPDX-License-Identifier: MIT
 *
 * Main leaves by weft_exit(), the other one goes on to its end: then there is nobody left.
 * Go: TestGoexitDeadlock, TestGoexitCrash */
#include <weft.h>

#include <stdio.h>

static void last(void *arg)
{
    (void)arg;
    weft_sleep(20000000);
    fputs("the last one is done\n", stderr);
}

static int entry(void *arg)
{
    (void)arg;
    weft_go(last, NULL);
    weft_exit();
    return 0;
}

int main(void)
{
    return weft_run(entry, NULL);
}
