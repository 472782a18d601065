/* SPDX-License-Identifier: MIT
 *
 * relay.c HOST PORT: who calls port 7008 talks to HOST:PORT.
 * One coroutine serves both directions of a connection, and hangs up when nobody has said anything
 * for a minute, or when the program is told to end (Ctrl-C).
 */
#include <weft.h>

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const *target;
static weft_chan_t *quit; /* closed at the end */

static ssize_t pass_on(int from, int to)
{
    char buf[4096];
    ssize_t n = weft_read(from, buf, sizeof buf), done = 0, w = 1;
    while (done < n && (w = weft_write(to, buf + done, (size_t)(n - done))) > 0)
        done += w;
    return w > 0 ? n : w;
}

static void relay(void *arg)
{
    int a = (int)(intptr_t)arg, got;
    int b = weft_dial_tcp(target[1], atoi(target[2]), weft_now() + INT64_C(10000000000));
    weft_case_t k[3] = {
        {.op = WEFT_FD_IN, .fd = a}, {.op = WEFT_FD_IN, .fd = b}, {.op = WEFT_RECV, .chan = quit}};
    do
        got = b < 0 ? b : weft_select(k, 3, weft_now() + INT64_C(60000000000));
    while ((got == 0 && pass_on(a, b) > 0) || (got == 1 && pass_on(b, a) > 0));
    weft_close(a);
    weft_close(b);
}

static int server(void *arg)
{
    int listener = weft_listen_tcp(NULL, 7008, 0), fd;
    weft_chan_t *stop = weft_chan_make(sizeof(int), 1);
    target = arg;
    quit = weft_chan_make(0, 0);
    if (listener < 0 || quit == NULL || weft_signal_notify(stop, SIGINT) != 0)
        return 1;
    weft_case_t k[2] = {{.op = WEFT_FD_IN, .fd = listener}, {.op = WEFT_RECV, .chan = stop}};
    while (weft_select(k, 2, 0) == 0 && (fd = weft_accept(listener, NULL, NULL)) >= 0)
        if (weft_go(relay, (void *)(intptr_t)fd) != 0)
            weft_close(fd);
    weft_chan_close(quit);
    return weft_sleep(100000000); /* they hang up */
}

int main(int argc, char **argv)
{
    if (argc == 3)
        return weft_run(server, argv);
    fprintf(stderr, "usage: relay HOST PORT\n");
    return 2;
}
