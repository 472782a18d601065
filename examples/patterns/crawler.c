/* SPDX-License-Identifier: MIT
 *
 * crawler.c: each page of a site once, with four connections at most. Page n links to 2n, 2n + 1 and 1. */
#include <weft.h>

#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAGES = 200 };
static weft_sem_t connections;
static weft_mutex_t lock;
static int seen[2 * PAGES], visited; /* under the lock */
static weft_wg_t all;
static struct sockaddr_in site;

static void serve(void *listener)
{
    for (int fd; (fd = weft_accept((int)(intptr_t)listener, NULL, NULL)) >= 0; weft_close(fd)) {
        char text[64] = {0};
        weft_read(fd, text, sizeof text - 1);
        int n = atoi(text), len = sprintf(text, n < PAGES ? "%d %d 1" : "1", 2 * n, 2 * n + 1);
        weft_write(fd, text, (size_t)len);
    }
}

static void visit(void *page)
{
    char text[64] = {0}, *at = text, *next;
    weft_sem_acquire(&connections, 1);
    int fd = weft_dial_tcp("127.0.0.1", ntohs(site.sin_port), 0),
        len = sprintf(text, "%ld", (long)page);
    if (weft_write(fd, text, (size_t)len) != len || weft_read(fd, text, sizeof text - 1) <= 0)
        text[0] = '\0';
    weft_close(fd);
    weft_sem_release(&connections, 1);
    weft_mutex_lock(&lock);
    for (long link; link = strtol(at, &next, 10), next != at; at = next)
        if (!seen[link]++)
            weft_wg_go(&all, visit, (void *)link);
    visited++;
    weft_mutex_unlock(&lock);
}

static int entry(void *first)
{
    int fd = weft_listen_tcp("127.0.0.1", 0, 0);
    getsockname(fd, (struct sockaddr *)&site, &(socklen_t){sizeof site});
    weft_sem_init(&connections, 4);
    weft_go(serve, (void *)(intptr_t)fd);
    seen[1] = weft_wg_go(&all, visit, first) == 0;
    weft_wg_wait(&all);
    return printf("%d pages\n", visited) < 0;
}

int main(void)
{
    return weft_run(entry, (void *)1);
}
