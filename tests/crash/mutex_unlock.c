/* SPDX-License-Identifier: MIT
 *
 * Unlocking a mutex that is not locked. Go: TestMutexMisuse. */
#include <weft.h>

static int entry(void *arg)
{
    static weft_mutex_t mx;
    (void)arg;
    weft_mutex_lock(&mx);
    weft_mutex_unlock(&mx);
    weft_mutex_unlock(&mx);
    return 0;
}

int main(void)
{
    return weft_run(entry, NULL);
}
