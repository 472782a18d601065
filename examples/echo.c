/* SPDX-License-Identifier: MIT
 *
 * echo.c: an echo server on port 7007 in thirty lines; try it with nc.
 * A peer that is silent for a minute is hung up on.
 */
#include <weft.h>

#include <stdint.h>
#include <stdio.h>
#include <string.h>

static void echo(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char buf[4096];
    for (;;) {
        weft_set_deadline(fd, WEFT_READ, weft_now() + INT64_C(60000000000));
        ssize_t n = weft_read(fd, buf, sizeof buf), done = 0;
        while (done < n) {
            ssize_t w = weft_write(fd, buf + done, (size_t)(n - done));
            if (w < 0)
                n = w;
            else
                done += w;
        }
        if (n <= 0)
            break;
    }
    weft_close(fd);
}

static int server(void *arg)
{
    (void)arg;
    int listener = weft_listen_tcp(NULL, 7007, 0);
    if (listener < 0) {
        fprintf(stderr, "echo: %s\n", strerror(-listener));
        return 1;
    }
    puts("listening on port 7007");
    for (;;) {
        int fd = weft_accept(listener, NULL, NULL);
        if (fd < 0)
            return 1;
        if (weft_go(echo, (void *)(intptr_t)fd) != 0)
            weft_close(fd);
    }
}

int main(void)
{
    return weft_run(server, NULL);
}
