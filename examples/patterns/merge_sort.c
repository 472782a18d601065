/* SPDX-License-Identifier: MIT
 *
 * merge_sort.c: a coroutine for one half of what is to be sorted; below some thousands qsort() is faster. */
#include <weft.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 500000, SMALL = 4096 };
static int a[N], spare[N];

typedef struct {
    int from, to; /* of a[] */
} Span;

static int compare(const void *x, const void *y)
{
    return *(const int *)x - *(const int *)y; /* neither is negative */
}

static void merge(int from, int mid, int to)
{
    for (int k = from, i = from, j = mid; k < to; k++)
        spare[k] = j == to || (i < mid && a[i] <= a[j]) ? a[i++] : a[j++];
    memcpy(a + from, spare + from, (size_t)(to - from) * sizeof *a);
}

static void sort(void *arg)
{
    const Span *s = arg;
    int mid = s->from + (s->to - s->from) / 2;
    Span low = {s->from, mid}, high = {mid, s->to};
    weft_wg_t wg = {0};
    if (s->to - s->from <= SMALL) {
        qsort(a + s->from, (size_t)(s->to - s->from), sizeof *a, compare);
        return;
    }
    if (weft_wg_go(&wg, sort, &low) != 0)
        sort(&low);
    sort(&high);
    weft_wg_wait(&wg);
    merge(s->from, mid, s->to);
}

static int entry(void *arg)
{
    int wrong = 0;
    for (int i = 0; i < N; i++)
        a[i] = rand();
    sort(arg);
    for (int i = 1; i < N; i++)
        wrong += a[i - 1] > a[i];
    return printf("%d numbers, %d out of order\n", N, wrong) < 0;
}

int main(void)
{
    return weft_run(entry, &(Span){0, N});
}
