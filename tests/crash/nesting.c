/* SPDX-License-Identifier: MIT
 *
 * weft_thread_lock() without end. */
#include <weft.h>

static int entry(void *arg)
{
    (void)arg;
    for (int i = 0; i < 100000; i++)
        weft_thread_lock();
    return 0;
}

int main(void)
{
    return weft_run(entry, NULL);
}
