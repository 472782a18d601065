/* SPDX-License-Identifier: MIT
 *
 * misread.c: a coroutine that reads what it has freed, for valgrind to find.
 * usage: misread private|copied [well]; with `well` it reads first and frees then. */
#include <weft.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static weft_chan_t *gate;
static volatile int sink;
static bool well;

/* Parked twice, with others on the same window or stack meanwhile: what it has on its stack is
 * still its own, and initialised. */
static __attribute__((noinline)) void misread(void *arg)
{
    int local[64], v = 0, *volatile heap = malloc(64 * sizeof(*heap));
    for (int i = 0; i < 64; i++)
        local[i] = heap[i] = i + (int)(size_t)arg;
    for (int i = 0; i < 2; i++) {
        weft_yield();
        weft_recv(gate, NULL);
        for (int k = 0; k < 64; k++)
            if (local[k] != k + (int)(size_t)arg)
                exit(1);
    }
    if (well)
        v = heap[7];
    free(heap);
    if (!well)
        v = heap[7];
    sink += v;
}

static int body(void *arg)
{
    enum { N = 40 };
    weft_attr_t attr = {.stack = *(int *)arg};
    gate = weft_chan_make(0, 0);
    for (size_t i = 0; i < N; i++)
        if (weft_go_with(&attr, misread, (void *)i) != 0)
            return 1;
    for (int i = 0; i < 2 * N; i++)
        weft_send(gate, NULL);
    weft_sleep(10000000); /* the last ones end */
    weft_chan_unref(gate);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    int stack = strcmp(argv[1], "copied") == 0 ? WEFT_STACK_COPIED : WEFT_STACK_PRIVATE;
    well = argc > 2;
    return weft_run(body, &stack) != 0;
}
