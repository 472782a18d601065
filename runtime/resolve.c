/* SPDX-License-Identifier: MIT
 *
 * resolve.c: names to addresses.
 *
 * getaddrinfo(3) reads files, asks servers, loads plug-ins and takes seconds if it likes: it is run
 * as a declared blocking call, outside of the runtime, on the caller's thread. errno is the one
 * thing that it and weft do not agree upon: EAI_SYSTEM says "see errno", so then errno is set.
 *
 * It cannot be given up. So weft_dial_tcp() with a deadline leaves it to a coroutine of its own and
 * waits for that one; after the deadline nobody does, and who is last frees the query. Numeric
 * addresses need nobody.
 */
#include "io.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>

typedef struct {
    const char *host, *service; /* of the caller, or in `text` */
    const struct addrinfo *hints;
    struct addrinfo *list;
    int rc;  /* getaddrinfo's */
    int err; /* errno, if that is EAI_SYSTEM */
} Query;

/* On one thread from begin to end, since weft moves nothing that is in libweft. */
static void *ask(void *arg)
{
    Query *q = arg;
    int *err = weft_errno(), saved = *err;
    q->rc = getaddrinfo(q->host, q->service, q->hints, &q->list);
    q->err = *err;
    *err = saved;
    return NULL;
}

int weft_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                     struct addrinfo **list)
{
    Query q = {.host = host, .service = service, .hints = hints};
    int rc = weft_blocking(ask, &q, NULL);
    if (rc == -ENOMEM)
        return EAI_MEMORY;
    if (rc != 0) {
        q.rc = EAI_SYSTEM;
        q.err = -rc;
    }
    if (q.rc == 0)
        *list = q.list;
    else if (q.rc == EAI_SYSTEM)
        *weft_errno() = q.err;
    return q.rc;
}

/* ---- for net.c ------------------------------------------------------------------ */

static int error_of(const Query *q)
{
    switch (q->rc) {
    case 0:
        return 0;
    case EAI_MEMORY:
        return -ENOMEM;
    case EAI_SYSTEM:
        return q->err != 0 ? -q->err : -EHOSTUNREACH;
    default:
        return -EHOSTUNREACH;
    }
}

/* A query that outlives its caller. */
typedef struct {
    Query q;
    struct addrinfo hints;
    weft_chan_t *done;
    _Atomic uint32_t users;
    char service[16];
    char host[];
} Errand;

static Errand *errand_make(const Query *q)
{
    size_t size = strlen(q->host) + 1;
    Errand *e = rt_alloc(sizeof *e + size);
    if (e == NULL)
        return NULL;
    memset(e, 0, sizeof *e);
    if ((e->done = weft_chan_make(0, 1)) == NULL) {
        rt_free(e);
        return NULL;
    }
    memcpy(e->host, q->host, size);
    memcpy(e->service, q->service, strlen(q->service) + 1);
    e->hints = *q->hints;
    e->q = (Query){.host = e->host, .service = e->service, .hints = &e->hints};
    e->users = 2;
    return e;
}

static void errand_drop(Errand *e)
{
    if (atomic_fetch_sub(&e->users, 1) != 1)
        return;
    if (e->q.list != NULL)
        freeaddrinfo(e->q.list);
    weft_chan_unref(e->done);
    rt_free(e);
}

static void errand_run(void *arg)
{
    Errand *e = arg;
    weft_blocking(ask, &e->q, NULL);
    weft_send(e->done, NULL);
    errand_drop(e);
}

static int resolve_until(Query *q, int64_t deadline)
{
    Errand *e = errand_make(q);
    if (e == NULL)
        return -ENOMEM;
    weft_case_t k = {.op = WEFT_RECV, .chan = e->done};
    int rc = coro_go_own(errand_run, e, "weft getaddrinfo");
    if (rc != 0) {
        errand_drop(e);
    } else if ((rc = weft_select(&k, 1, deadline)) == 0) {
        rc = error_of(&e->q);
        q->list = e->q.list;
        e->q.list = NULL;
    }
    errand_drop(e);
    return rc;
}

static int resolve_now(Query *q)
{
    int rc = weft_blocking(ask, q, NULL);
    return rc != 0 ? rc : error_of(q);
}

/* These call what users call, and may change threads: outside of the runtime. */
static int resolve(IO *io, Query *q, int64_t deadline)
{
    *io->m->errno_addr = io->saved_errno;
    rt_leave(io->m);
    int rc = deadline != 0 && get_acq(&sched.active) ? resolve_until(q, deadline) : resolve_now(q);
    io->m = rt_enter();
    io->saved_errno = *io->m->errno_addr;
    return rc;
}

int net_resolve(IO *io, const char *host, int port, int flags, int64_t deadline,
                struct addrinfo **list)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = flags | AI_NUMERICSERV | AI_NUMERICHOST};
    char service[16];
    Query q = {.host = host, .service = service, .hints = &hints};
    if (port < 0 || port > 65535)
        return -EINVAL;
    snprintf(service, sizeof service, "%d", port);
    ask(&q);
    int rc = error_of(&q);
    if (q.rc == EAI_NONAME && host != NULL) {
        hints.ai_flags &= ~AI_NUMERICHOST;
        rc = resolve(io, &q, deadline);
    }
    *list = q.list;
    return rc;
}
