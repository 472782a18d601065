/* SPDX-License-Identifier: MIT
 *
 * A reader that leaves a readers-writer mutex twice. Go: sync.RWMutex.RUnlock. */
#include <weft.h>

static int entry(void *arg)
{
    static weft_rwmutex_t rw;
    (void)arg;
    weft_rwmutex_rlock(&rw);
    weft_rwmutex_runlock(&rw);
    weft_rwmutex_runlock(&rw);
    return 0;
}

int main(void)
{
    return weft_run(entry, NULL);
}
