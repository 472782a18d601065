/* SPDX-License-Identifier: MIT
 *
 * quiet.c: a program for weft-top to look at: some coroutines that wait, and, if asked for, some that compute. On
 * each line of its input it prints its counters, as weft_stats_text() has them; at the end of the input it ends.
 * usage: quiet [HOGS] */
#include <weft.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { RECEIVERS = 30, SLEEPERS = 7, LOCKERS = 5 };

static weft_chan_t *gate;
static weft_mutex_t lock;

static void receiver(void *arg)
{
    (void)arg;
    weft_recv(gate, NULL);
}

static void sleeper(void *arg)
{
    (void)arg;
    weft_sleep(INT64_C(1000000000000));
}

static void locker(void *arg)
{
    (void)arg;
    weft_mutex_lock(&lock);
}

static void quiet_hog(void *arg)
{
    (void)arg;
    for (volatile unsigned long i = 0;; i++)
        ;
}

static void go(const char *name, int n, void (*fn)(void *))
{
    weft_attr_t attr = {.name = name};
    while (n-- > 0)
        if (weft_go_with(&attr, fn, NULL) != 0)
            exit(1);
}

static int entry(void *arg)
{
    char byte, text[16384];
    gate = weft_chan_make(0, 0);
    weft_mutex_lock(&lock);
    go("receiver", RECEIVERS, receiver);
    go("sleeper", SLEEPERS, sleeper);
    go("locker", LOCKERS, locker);
    go(NULL, *(int *)arg, quiet_hog);
    while (weft_read(STDIN_FILENO, &byte, 1) == 1) {
        if (byte != '\n')
            continue;
        int n = weft_stats_text(text, sizeof text);
        if (n < 0 || write(STDOUT_FILENO, text, (size_t)n) != n ||
            write(STDOUT_FILENO, "end\n", 4) != 4)
            return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    int hogs = argc > 1 ? atoi(argv[1]) : 0;
    return weft_run(entry, &hogs);
}
