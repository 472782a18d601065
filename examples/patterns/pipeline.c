/* SPDX-License-Identifier: MIT
 *
 * pipeline.c: stages joined by channels, each a coroutine that reads its input until that is closed and
 * then closes its output: numbers, their squares, those of them that end in 6. */
#include <weft.h>

#include <stdbool.h>
#include <stdio.h>

typedef struct {
    bool (*step)(int *v); /* false: this one goes no further */
    weft_chan_t *in, *out;
} Stage;

static bool square(int *v)
{
    *v *= *v;
    return true;
}

static bool ends_in_6(int *v)
{
    return *v % 10 == 6;
}

static void stage(void *arg)
{
    const Stage *s = arg;
    for (int v; weft_recv(s->in, &v) == 1;)
        if (s->step(&v))
            weft_send(s->out, &v);
    weft_chan_close(s->out);
}

static int entry(void *arg)
{
    weft_chan_t *c[3];
    (void)arg;
    for (int i = 0; i < 3; i++)
        if ((c[i] = weft_chan_make(sizeof(int), 4)) == NULL)
            return 1;
    Stage squares = {square, c[0], c[1]}, sixes = {ends_in_6, c[1], c[2]};
    if (weft_go(stage, &squares) != 0 || weft_go(stage, &sixes) != 0)
        return 1;
    for (int i = 1; i <= 24; i++)
        weft_send(c[0], &i);
    weft_chan_close(c[0]);
    for (int v; weft_recv(c[2], &v) == 1;)
        printf("%d ", v);
    puts("");
    for (int i = 0; i < 3; i++)
        weft_chan_unref(c[i]);
    return 0;
}

int main(void)
{
    return weft_run(entry, NULL);
}
