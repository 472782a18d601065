/* SPDX-License-Identifier: MIT
 *
 * Closing no channel at all, before a run: a fatal line without a dump. */
#include <weft.h>

int main(void)
{
    weft_chan_close(NULL);
    return 0;
}
