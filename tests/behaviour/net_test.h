/* SPDX-License-Identifier: MIT
 *
 * net_test.h: what check_net.c and check_netpoll.c have in common. */
#ifndef NET_TEST_H
#define NET_TEST_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

#include "behaviour.h"

static inline int port_of(int fd)
{
    struct sockaddr_in sa;
    socklen_t len = sizeof sa;
    EQ(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    return ntohs(sa.sin_port);
}

static inline int listen_local(int backlog)
{
    int fd = weft_listen_tcp("127.0.0.1", 0, backlog);
    OK(fd >= 0);
    return fd;
}

/* Both ends of a TCP connection. */
static inline void tcp_pair(int ends[2])
{
    int listener = listen_local(0);
    ends[0] = weft_dial_tcp("127.0.0.1", port_of(listener), 0);
    OK(ends[0] >= 0);
    ends[1] = weft_accept(listener, NULL, NULL);
    OK(ends[1] >= 0);
    EQ(weft_close(listener), 0);
}

static inline void close_pair(const int ends[2])
{
    EQ(weft_close(ends[0]), 0);
    EQ(weft_close(ends[1]), 0);
}

/* A coroutine that reads once and says what it got. */
typedef struct {
    int fd;
    size_t len;
    ssize_t n;
    char buf[256];
    weft_wg_t done;
    _Atomic bool began;
} Reader;

static inline void read_once(void *arg)
{
    Reader *r = arg;
    r->began = true;
    r->n = weft_read(r->fd, r->buf, r->len != 0 ? r->len : sizeof r->buf);
    weft_wg_done(&r->done);
}

static inline void reader_start(Reader *r, int fd)
{
    *r = (Reader){.fd = fd};
    weft_wg_add(&r->done, 1);
    go(read_once, r);
    while (!r->began)
        weft_yield();
    weft_sleep(2 * MS); /* it is parked by now; if not, the test is only weaker */
}

static inline ssize_t reader_result(Reader *r)
{
    weft_wg_wait(&r->done);
    return r->n;
}

#endif
