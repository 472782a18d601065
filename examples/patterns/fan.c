/* SPDX-License-Identifier: MIT
 *
 * fan.c: fan-out and fan-in. One source feeds three coroutines, whichever is free; what each makes goes into a
 * channel of its own, and a select brings that together. */
#include <weft.h>

#include <stdio.h>

enum { WIDTH = 3, ITEMS = 60 };

static weft_chan_t *source, *made[WIDTH];

static void feed(void *arg)
{
    (void)arg;
    for (int i = 0; i < ITEMS; i++)
        weft_send(source, &i);
    weft_chan_close(source);
}

static void make(void *arg)
{
    weft_chan_t *out = arg;
    for (int v; weft_recv(source, &v) == 1;)
        weft_send(out, &(int){10 * v});
    weft_chan_close(out);
}

static int entry(void *arg)
{
    weft_case_t from[WIDTH];
    int v, open = WIDTH, n = 0, sum = 0;
    (void)arg;
    source = weft_chan_make(sizeof(int), 0);
    if (source == NULL || weft_go(feed, NULL) != 0)
        return 1;
    for (int i = 0; i < WIDTH; i++) {
        if ((made[i] = weft_chan_make(sizeof(int), 0)) == NULL || weft_go(make, made[i]) != 0)
            return 1;
        from[i] = (weft_case_t){.op = WEFT_RECV, .chan = made[i], .elem = &v};
    }
    while (open > 0) {
        int i = weft_select(from, WIDTH, 0);
        if (from[i].result == 1) {
            sum += v;
            n++;
        } else { /* closed and drained: a NULL channel is never ready */
            from[i].chan = NULL;
            open--;
        }
    }
    printf("%d items, sum %d\n", n, sum);
    return 0;
}

int main(void)
{
    return weft_run(entry, NULL);
}
