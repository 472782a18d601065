/* SPDX-License-Identifier: MIT
 *
 * A reader that leaves a readers-writer mutex as if it had written. Go: sync.RWMutex.Unlock. */
#include <weft.h>

static int entry(void *arg)
{
    static weft_rwmutex_t rw;
    (void)arg;
    weft_rwmutex_rlock(&rw);
    weft_rwmutex_unlock(&rw);
    return 0;
}

int main(void)
{
    return weft_run(entry, NULL);
}
