/* SPDX-License-Identifier: MIT
 *
 * app.c: a program outside libweft's tree. 100,000 coroutines send through one
 * channel, main adds up; all of it twice in one process.
 *
 *   cc app.c $(pkg-config --cflags --libs weft)
 */
#include <weft.h>

#include <stdio.h>

enum { N = 100000 };

struct job {
    weft_chan_t *c;
    int value;
};

static struct job jobs[N];

static void sender(void *arg)
{
    struct job *j = arg;
    (void)weft_send(j->c, &j->value);
}

static int sum_up(void *arg)
{
    weft_chan_t *c = weft_chan_make(sizeof(int), 0);
    long long sum = 0;

    (void)arg;
    if (c == NULL)
        return 2;
    for (int i = 0; i < N; i++) {
        jobs[i].c = c;
        jobs[i].value = i;
        if (weft_go(sender, &jobs[i]) != 0)
            return 3;
    }
    for (int i = 0; i < N; i++) {
        int v;
        if (weft_recv(c, &v) != 1)
            return 4;
        sum += v;
    }
    weft_chan_unref(c);
    return sum == (long long)N * (N - 1) / 2 ? 0 : 5;
}

int main(void)
{
    for (int run = 1; run <= 2; run++) {
        int rc = weft_run(sum_up, NULL);
        if (rc != 0) {
            fprintf(stderr, "app: run %d returned %d\n", run, rc);
            return 1;
        }
    }
    printf("app: two runs of %d coroutines\n", N);
    return 0;
}
