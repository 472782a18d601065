/* SPDX-License-Identifier: MIT
 *
 * typed.c: a pipeline whose stages hold one end of each channel. Numbers are made,
 * squared and added up; with two ends swapped it does not compile.
 */
#include <weft/typed.h>

#include <stdio.h>

WEFT_CHAN(ints, int);
WEFT_CHAN(squares, long);

struct stage {
    ints_rx_t in;
    squares_tx_t out;
};

static void make_numbers(void *arg)
{
    ints_tx_t *out = arg;
    for (int i = 1; i <= 100; i++)
        ints_send(*out, i);
    ints_close(*out);
}

static void square(void *arg)
{
    struct stage *stage = arg;
    for (int n; ints_recv(stage->in, &n) == 1;)
        squares_send(stage->out, (long)n * n);
    squares_close(stage->out);
}

static int add_up(void *arg)
{
    ints_t numbers = ints_make(0);
    squares_t squares = squares_make(16);
    struct stage stage = {numbers.rx, squares.tx};
    long n, sum = 0;

    (void)arg;
    if (numbers.chan == NULL || squares.chan == NULL)
        return 1;
    if (weft_go(make_numbers, &numbers.tx) != 0 || weft_go(square, &stage) != 0)
        return 1;
    while (squares_recv(squares.rx, &n) == 1)
        sum += n;
    printf("the squares of 1 to 100 add up to %ld\n", sum);
    ints_unref(numbers);
    squares_unref(squares);
    return sum == 338350 ? 0 : 1;
}

int main(void)
{
    return weft_run(add_up, NULL);
}
