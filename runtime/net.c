/* SPDX-License-Identifier: MIT
 *
 * net.c: accept, connect, listen and dial.
 *
 * A listener's backlog gives one edge however long it is, and an accept that
 * fails for want of descriptors leaves the connection there without another
 * edge: so accept always tries before it waits, and any outcome but -EAGAIN
 * sets FD_IN again (io_run).
 *
 * Every socket made here starts a new generation of its number (fd_adopt), and has
 * TCP_NODELAY set if it knows it.
 */
#include "io.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

static int net_errno(const IO *io)
{
    return -*io->m->errno_addr;
}

static bool net_nodelay(int fd)
{
    int on = 1;
    return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0;
}

/* fd is new: make it weft's. It is closed on failure. */
static int net_adopt(IO *io, int fd)
{
    int rc = fd_adopt(&io->m, fd, net_nodelay(fd));
    if (rc == 0)
        return fd;
    close(fd);
    return rc;
}

/* ---- accept ----------------------------------------------------------------------- */

typedef struct {
    struct sockaddr *sa;
    socklen_t *len;
} Peer;

static ssize_t net_try_accept(IO *io, void *arg)
{
    const Peer *peer = arg;
    socklen_t size = peer->len != NULL ? *peer->len : 0;
    for (;;) {
        if (peer->len != NULL)
            *peer->len = size;
        int fd = accept4(io->f.fd, peer->sa, peer->len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            return fd;
        int err = net_errno(io);
        if (err != -EINTR && err != -ECONNABORTED) /* that one has hung up already */
            return err == -EWOULDBLOCK ? -EAGAIN : err;
    }
}

int weft_accept(int fd, struct sockaddr *sa, socklen_t *len)
{
    IO io;
    if (fd < 0)
        return -EBADF;
    Peer peer = {sa, sa != NULL ? len : NULL};
    int rc = io_enter(&io, fd);
    if (rc == 0)
        rc = (int)io_run(&io, WEFT_READ, net_try_accept, &peer);
    if (rc >= 0)
        rc = net_adopt(&io, rc);
    return (int)io_leave(&io, rc);
}

/* ---- connect ------------------------------------------------------------------------ */

typedef struct {
    const struct sockaddr *sa;
    socklen_t len;
    bool started;
    bool full; /* a local socket's backlog; the system would not tell when there is room */
} Target;

/* Is it connected? An edge does not say so: it may be of an earlier time. */
static ssize_t net_connected(IO *io)
{
    int err = 0;
    socklen_t len = sizeof err;
    if (getsockopt(io->f.fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
        return net_errno(io);
    if (err != 0)
        return -err;
    struct sockaddr_storage peer;
    len = sizeof peer;
    if (getpeername(io->f.fd, (struct sockaddr *)&peer, &len) == 0)
        return 0;
    return net_errno(io) == -ENOTCONN ? -EAGAIN : net_errno(io);
}

static ssize_t net_try_connect(IO *io, void *arg)
{
    Target *t = arg;
    if (t->started)
        return net_connected(io);
    if (connect(io->f.fd, t->sa, t->len) == 0)
        return 0;
    int err = net_errno(io);
    /* EALREADY: another coroutine has started it. An interrupted call goes on too. */
    if (err != -EINPROGRESS && err != -EALREADY && err != -EINTR) {
        t->full = err == -EAGAIN;
        return t->full ? -ECONNREFUSED : err;
    }
    t->started = true;
    return -EAGAIN;
}

static int net_connect(IO *io, const struct sockaddr *sa, socklen_t len)
{
    Target t = {.sa = sa, .len = len};
    int rc = (int)io_run(io, WEFT_WRITE, net_try_connect, &t);
    return t.full ? -EAGAIN : rc;
}

int weft_connect(int fd, const struct sockaddr *sa, socklen_t len)
{
    IO io;
    if (fd < 0)
        return -EBADF;
    int rc = io_enter(&io, fd);
    if (rc == 0)
        rc = net_connect(&io, sa, len);
    return (int)io_leave(&io, rc);
}

static int net_socket(IO *io, int family, int protocol)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
    return fd >= 0 ? fd : net_errno(io);
}

/* ---- listen ------------------------------------------------------------------------------ */

static int net_listen_at(IO *io, const struct sockaddr *sa, socklen_t len, int backlog)
{
    int fd = net_socket(io, sa->sa_family, IPPROTO_TCP), on = 1, off = 0, rc;
    if (fd < 0)
        return fd;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (sa->sa_family == AF_INET6) /* the address of all takes IPv4 too */
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, sa, len) == 0 && listen(fd, backlog > 0 ? backlog : SOMAXCONN) == 0)
        return net_adopt(io, fd);
    rc = net_errno(io);
    close(fd);
    return rc;
}

static int net_listen_all(IO *io, int port, int backlog)
{
    struct sockaddr_in6 six = {
        .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = IN6ADDR_ANY_INIT};
    struct sockaddr_in four = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_ANY)};
    if (port < 0 || port > 65535)
        return -EINVAL;
    int rc = net_listen_at(io, (struct sockaddr *)&six, sizeof six, backlog);
    if (rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL) /* no IPv6 here */
        rc = net_listen_at(io, (struct sockaddr *)&four, sizeof four, backlog);
    return rc;
}

static int net_listen(IO *io, const char *host, int port, int backlog)
{
    struct addrinfo *list;
    if (host == NULL)
        return net_listen_all(io, port, backlog);
    int rc = net_resolve(io, host, port, AI_PASSIVE, 0, &list);
    if (rc != 0)
        return rc;
    rc = -EHOSTUNREACH;
    for (struct addrinfo *ai = list; ai != NULL && rc < 0; ai = ai->ai_next)
        rc = net_listen_at(io, ai->ai_addr, ai->ai_addrlen, backlog);
    freeaddrinfo(list);
    return rc;
}

int weft_listen_tcp(const char *host, int port, int backlog)
{
    IO io;
    int rc = io_enter(&io, -1);
    if (rc == 0)
        rc = net_listen(&io, host, port, backlog);
    return (int)io_leave(&io, rc);
}

/* ---- dial --------------------------------------------------------------------------------- */

static int net_dial_at(IO *io, const struct addrinfo *ai, int64_t deadline)
{
    int fd = net_socket(io, ai->ai_family, ai->ai_protocol), rc;
    if (fd < 0 || (fd = net_adopt(io, fd)) < 0)
        return fd;
    if ((rc = fd_ref(&io->m, fd, &io->f)) != 0)
        goto fail;
    if (deadline != 0 && (rc = netpoll_deadline(io->m, &io->f, WEFT_WRITE, deadline)) != 0)
        goto fail;
    if ((rc = net_connect(io, ai->ai_addr, ai->ai_addrlen)) != 0)
        goto fail;
    if (deadline != 0)
        netpoll_deadline(io->m, &io->f, WEFT_WRITE, 0);
    return fd;
fail:
    fd_close(&io->m, fd);
    return rc;
}

static int net_dial(IO *io, const char *host, int port, int64_t deadline)
{
    struct addrinfo *list;
    int rc = net_resolve(io, host, port, 0, deadline, &list);
    if (rc != 0)
        return rc;
    rc = -EHOSTUNREACH;
    for (struct addrinfo *ai = list; ai != NULL && rc < 0; ai = ai->ai_next) {
        rc = net_dial_at(io, ai, deadline);
        if (rc == -ETIMEDOUT || rc == -ECANCELED)
            break;
    }
    freeaddrinfo(list);
    return rc;
}

int weft_dial_tcp(const char *host, int port, int64_t deadline)
{
    IO io;
    if (deadline < 0)
        return -EINVAL;
    int rc = io_enter(&io, -1);
    if (rc == 0)
        rc = net_dial(&io, host, port, deadline);
    return (int)io_leave(&io, rc);
}
