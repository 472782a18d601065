/* SPDX-License-Identifier: MIT
 *
 * A channel that does not exist: receiving from it waits for ever. */
#include <weft.h>

static int entry(void *arg)
{
    (void)arg;
    return weft_recv(NULL, NULL);
}

int main(void)
{
    return weft_run(entry, NULL);
}
