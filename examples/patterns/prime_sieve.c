/* SPDX-License-Identifier: MIT
 *
 * prime_sieve.c: a coroutine for each prime lets through what it does not divide. All numbers run through a
 * growing chain of channels; what comes out in front is prime. Main's return ends them all. */
#include <weft.h>

#include <stdio.h>

enum { PRIMES = 50 };

typedef struct {
    weft_chan_t *in, *out;
    int prime;
} Filter;

static void count(void *arg)
{
    for (int i = 2;; i++)
        weft_send(arg, &i);
}

static void filter(void *arg)
{
    const Filter *f = arg;
    for (int i; weft_recv(f->in, &i) == 1;)
        if (i % f->prime != 0)
            weft_send(f->out, &i);
}

static int entry(void *arg)
{
    static Filter filters[PRIMES];
    weft_chan_t *c = weft_chan_make(sizeof(int), 0);
    (void)arg;
    if (c == NULL || weft_go(count, c) != 0)
        return 1;
    for (int i = 0; i < PRIMES; i++) {
        Filter *f = &filters[i];
        weft_recv(c, &f->prime);
        printf("%d%c", f->prime, i % 10 == 9 ? '\n' : ' ');
        f->in = c;
        if ((c = f->out = weft_chan_make(sizeof(int), 0)) == NULL || weft_go(filter, f) != 0)
            return 1;
    }
    return 0;
}

int main(void)
{
    return weft_run(entry, NULL);
}
