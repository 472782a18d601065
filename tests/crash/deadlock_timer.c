/* SPDX-License-Identifier: MIT
 *
 * Neither a stopped timer, nor a far deadline that was met in time, nor a weft_after() that was
 * dropped hides a deadlock. */
#include <weft.h>

static weft_chan_t *c;

static void nothing(void *arg)
{
    (void)arg;
}

static void sender(void *arg)
{
    (void)arg;
    weft_send(c, NULL);
}

static int entry(void *arg)
{
    (void)arg;
    static weft_timer_t t;
    int64_t far = weft_now() + 3600 * INT64_C(1000000000);
    c = weft_chan_make(0, 0);
    weft_timer_start(&t, far, 0, nothing, NULL);
    weft_go(sender, NULL);
    weft_case_t met = {.op = WEFT_RECV, .chan = c};
    if (weft_select(&met, 1, far) != 0 || weft_timer_stop(&t) != 1)
        return 1;
    weft_chan_unref(weft_after(far));
    return weft_recv(c, NULL);
}

int main(void)
{
    return weft_run(entry, NULL);
}
