/* SPDX-License-Identifier: MIT
 *
 * A select on descriptors and a channel keeps the program awake while it waits, and no longer: one
 * that the channel won leaves nothing behind that would hide a deadlock. */
#include <weft.h>

#include <unistd.h>

static void sender(void *c)
{
    weft_yield();
    weft_send(c, NULL);
}

static int entry(void *arg)
{
    int p[2];
    weft_chan_t *c = weft_chan_make(0, 0);
    (void)arg;
    if (c == NULL || pipe(p) != 0)
        return 1;
    for (int i = 0; i < 20; i++) {
        weft_case_t k[3] = {{.op = WEFT_FD_IN, .fd = p[0]},
                            {.op = WEFT_RECV, .chan = c},
                            {.op = WEFT_FD_IN, .fd = p[0]}};
        if (weft_go(sender, c) != 0 || weft_select(k, 3, 0) != 1)
            return 1;
    }
    write(STDERR_FILENO, "twenty were sent\n", 17);
    return weft_recv(c, NULL);
}

int main(void)
{
    weft_config_t cfg = {.procs = 2};
    return weft_run_with(&cfg, entry, NULL);
}
