/* SPDX-License-Identifier: MIT
 *
 * rate_limiter.c: a token bucket. A timer puts a token into a buffered channel every 2 ms unless that is
 * full; who wants to act takes one. The capacity is the burst that is let through at once. */
#include <weft.h>

#include <stdio.h>

enum { BURST = 5, CALLS = 25 };
static const int64_t EVERY = 2000000;

static weft_chan_t *bucket;

static void drip(void *arg)
{
    (void)arg;
    weft_try_send(bucket, NULL);
}

static int entry(void *arg)
{
    static weft_timer_t timer;
    (void)arg;
    if ((bucket = weft_chan_make(0, BURST)) == NULL)
        return 1;
    for (int i = 0; i < BURST; i++)
        weft_send(bucket, NULL);
    int64_t begin = weft_now();
    if (weft_timer_start(&timer, begin + EVERY, EVERY, drip, NULL) != 0)
        return 1;
    for (int i = 0; i < CALLS; i++)
        weft_recv(bucket, NULL);
    int64_t took = weft_now() - begin;
    weft_timer_stop(&timer);
    printf("%d calls, no faster than allowed: %s\n", CALLS,
           took >= (CALLS - BURST) * EVERY ? "yes" : "no");
    return 0; /* a callback may still be on its way: the bucket stays */
}

int main(void)
{
    return weft_run(entry, NULL);
}
