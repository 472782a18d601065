/* SPDX-License-Identifier: MIT
 *
 * httpd.c: a small HTTP/1.1 server, one coroutine for each connection.
 *
 *   httpd [-c] [-p port]   port 0: any; the address is printed
 *
 * -c: connections are served on copied stacks, which cost less while they are idle.
 *
 *   /plaintext  Hello, World!
 *   /json       the same as JSON
 *   /stats      what the runtime is doing
 *   /metrics    the same, all of it, for Prometheus
 *
 * serve() is the whole life of a connection, written as if it had the machine
 * for itself: read, answer every complete request in the buffer, write all the
 * answers at once, again. weft_read() parks the coroutine while nothing comes.
 * An idle connection keeps what is on its stack then, so that is kept small: what
 * comes first is read into a few bytes, and the buffers exist only while there is
 * something in them.
 * SIGINT and SIGTERM close the listener, which ends main's accept loop.
 */
#include <weft.h>

#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

static int listener, signal_pipe[2], port = 8080;
static weft_attr_t connection; /* what the coroutines of connections are like */

/* ---- the date, formatted once a second --------------------------------------- */

static char dates[2][64];
static _Atomic(const char *) date;

static void keep_date(void *arg)
{
    (void)arg;
    for (unsigned i = 0;; i++) {
        time_t now = time(NULL);
        struct tm tm;
        gmtime_r(&now, &tm);
        strftime(dates[i % 2], sizeof dates[0], "%a, %d %b %Y %H:%M:%S GMT", &tm);
        date = dates[i % 2];
        weft_sleep(1000000000);
    }
}

/* ---- one connection ------------------------------------------------------------- */

enum { FIRST_MAX = 256, IN_MAX = 8192, OUT_MAX = 8192, ANSWER_MAX = 1024 };

typedef struct {
    int fd;
    size_t in_len, out_len;
    uint64_t skip; /* bytes of a request's body that are yet to come */
    char in[IN_MAX], out[OUT_MAX];
} Conn;

typedef struct {
    const char *method, *path;
    size_t method_len, path_len;
    bool keep_alive, chunked;
    uint64_t body;
} Request;

static bool send_all(int fd, const char *buf, size_t len)
{
    for (ssize_t n; len > 0; buf += n, len -= (size_t)n)
        if ((n = weft_write(fd, buf, len)) < 0)
            return false;
    return true;
}

static bool flush(Conn *c)
{
    size_t len = c->out_len;
    c->out_len = 0;
    return send_all(c->fd, c->out, len);
}

static bool answer(Conn *c, const char *status, const char *type, const char *body, bool keep,
                   bool head_only)
{
    if (OUT_MAX - c->out_len < ANSWER_MAX && !flush(c))
        return false;
    int n = snprintf(c->out + c->out_len, OUT_MAX - c->out_len,
                     "HTTP/1.1 %s\r\nServer: weft\r\nDate: %s\r\nContent-Type: %s\r\n"
                     "Content-Length: %zu\r\n%s\r\n%s",
                     status, date, type, strlen(body), keep ? "" : "Connection: close\r\n",
                     head_only ? "" : body);
    c->out_len += (size_t)n;
    return true;
}

static bool refuse(Conn *c, const char *status)
{
    answer(c, status, "text/plain", status, false, false);
    return false;
}

static void stats_json(char *buf, size_t len)
{
    weft_stats_t s = {0};
    weft_stats(&s);
    snprintf(buf, len,
             "{\"coroutines\":%llu,\"runnable\":%llu,\"threads\":%llu,\"threads_idle\":%llu,"
             "\"procs\":%llu,\"spawned\":%llu,\"exited\":%llu,\"switches\":%llu,\"steals\":%llu,"
             "\"netpoll_wakeups\":%llu,\"timers\":%llu,\"timers_fired\":%llu}",
             (unsigned long long)s.coroutines, (unsigned long long)s.runnable,
             (unsigned long long)s.threads, (unsigned long long)s.threads_idle,
             (unsigned long long)s.procs, (unsigned long long)s.spawned,
             (unsigned long long)s.exited, (unsigned long long)s.switches,
             (unsigned long long)s.steals, (unsigned long long)s.netpoll_wakeups,
             (unsigned long long)s.timers, (unsigned long long)s.timers_fired);
}

static bool is(const char *s, size_t len, const char *word)
{
    return len == strlen(word) && memcmp(s, word, len) == 0;
}

/* Longer than an answer in the buffer may be: the head goes there, the text past it. */
static bool metrics(Conn *c, bool keep, bool head)
{
    enum { ROOM = 32768 };
    char *text = malloc(ROOM);
    int n = text != NULL ? weft_stats_text(text, ROOM) : -1;
    bool sent = false;
    if (n < 0 || n >= ROOM)
        refuse(c, "500 Internal Server Error");
    else
        sent = answer(c, "200 OK", "text/plain; version=0.0.4", text, keep, true) &&
               (head || (flush(c) && send_all(c->fd, text, (size_t)n)));
    free(text);
    return sent && keep;
}

/* False: the connection is to be closed. */
static bool handle(Conn *c, const Request *r)
{
    bool head = is(r->method, r->method_len, "HEAD");
    const char *query = memchr(r->path, '?', r->path_len);
    size_t path_len = query != NULL ? (size_t)(query - r->path) : r->path_len;
    const char *status = "200 OK", *type = "application/json", *body;
    char buf[512];

    if (!head && !is(r->method, r->method_len, "GET")) {
        status = "405 Method Not Allowed";
        type = "text/plain";
        body = "only GET and HEAD\n";
    } else if (is(r->path, path_len, "/plaintext")) {
        type = "text/plain";
        body = "Hello, World!";
    } else if (is(r->path, path_len, "/json")) {
        body = "{\"message\":\"Hello, World!\"}";
    } else if (is(r->path, path_len, "/metrics")) {
        return metrics(c, r->keep_alive, head);
    } else if (is(r->path, path_len, "/stats")) {
        stats_json(buf, sizeof buf);
        body = buf;
    } else {
        status = "404 Not Found";
        type = "text/plain";
        body = "try /plaintext, /json, /stats or /metrics\n";
    }
    return answer(c, status, type, body, r->keep_alive, head) && r->keep_alive;
}

/* ---- parsing ---------------------------------------------------------------------- */

static bool has_name(const char *line, const char *colon, const char *name)
{
    size_t len = strlen(name);
    return (size_t)(colon - line) == len && strncasecmp(line, name, len) == 0;
}

static bool has_value(const char *v, size_t len, const char *want)
{
    return len == strlen(want) && strncasecmp(v, want, len) == 0;
}

static bool parse_number(const char *s, size_t len, uint64_t *out)
{
    *out = 0;
    if (len == 0 || len > 15)
        return false;
    for (; len > 0; s++, len--) {
        if (*s < '0' || *s > '9')
            return false;
        *out = *out * 10 + (uint64_t)(*s - '0');
    }
    return true;
}

/* "Name: value", without the line's end. */
static bool parse_header(const char *line, const char *end, Request *r)
{
    const char *colon = memchr(line, ':', (size_t)(end - line));
    if (colon == NULL || colon == line || *line == ' ' || *line == '\t')
        return false;
    const char *v = colon + 1;
    while (v < end && (*v == ' ' || *v == '\t'))
        v++;
    while (end > v && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    size_t len = (size_t)(end - v);
    switch (*line | 0x20) { /* most headers are none of ours */
    case 'c':
        if (has_name(line, colon, "content-length"))
            return parse_number(v, len, &r->body);
        if (has_name(line, colon, "connection")) {
            if (has_value(v, len, "close"))
                r->keep_alive = false;
            else if (has_value(v, len, "keep-alive"))
                r->keep_alive = true;
        }
        break;
    case 't':
        if (has_name(line, colon, "transfer-encoding"))
            r->chunked = true;
        break;
    }
    return true;
}

/* The head of a request, [p, end), each line with its \r\n, the empty one too. */
static bool parse(const char *p, const char *end, Request *r)
{
    const char *eol = memmem(p, (size_t)(end - p), "\r\n", 2);
    const char *sp1 = memchr(p, ' ', (size_t)(eol - p));
    const char *sp2 = sp1 != NULL ? memchr(sp1 + 1, ' ', (size_t)(eol - sp1 - 1)) : NULL;
    if (sp2 == NULL || sp1 == p || sp1[1] != '/' || eol - sp2 != 9 ||
        memcmp(sp2 + 1, "HTTP/1.", 7) != 0 || (eol[-1] != '0' && eol[-1] != '1'))
        return false;
    *r = (Request){.method = p,
                   .method_len = (size_t)(sp1 - p),
                   .path = sp1 + 1,
                   .path_len = (size_t)(sp2 - sp1 - 1),
                   .keep_alive = eol[-1] == '1'};
    for (p = eol + 2; p + 2 < end; p = eol + 2) {
        eol = memmem(p, (size_t)(end - p), "\r\n", 2);
        if (!parse_header(p, eol, r))
            return false;
    }
    return true;
}

/* Answer all complete requests; what is left moves to the front of the buffer. */
static bool handle_all(Conn *c)
{
    char *p = c->in, *end = c->in + c->in_len, *head_end;
    bool open = true;
    while (open) {
        size_t have = (size_t)(end - p);
        size_t drop = c->skip < have ? (size_t)c->skip : have;
        c->skip -= drop;
        p += drop;
        if ((head_end = memmem(p, (size_t)(end - p), "\r\n\r\n", 4)) == NULL)
            break;
        head_end += 4;
        Request r = {0};
        if (!parse(p, head_end, &r))
            open = refuse(c, "400 Bad Request");
        else if (r.chunked)
            open = refuse(c, "501 Not Implemented");
        else
            open = handle(c, &r);
        c->skip = r.body;
        p = head_end;
    }
    c->in_len = (size_t)(end - p);
    if (open && c->in_len == IN_MAX)
        open = refuse(c, "431 Request Header Fields Too Large");
    memmove(c->in, p, c->in_len);
    return flush(c) && open;
}

/* The first n bytes of a request have come. Answers it, and what comes with it; true: nothing is
 * begun any more, and the connection stays open. */
static bool converse(int fd, const char *first, size_t n)
{
    Conn *c = malloc(sizeof *c);
    if (c == NULL)
        return false;
    c->fd = fd;
    c->in_len = n;
    c->out_len = 0;
    c->skip = 0;
    memcpy(c->in, first, n);
    bool open = handle_all(c);
    while (open && (c->in_len > 0 || c->skip > 0)) {
        ssize_t more = weft_read(fd, c->in + c->in_len, IN_MAX - c->in_len);
        c->in_len += more > 0 ? (size_t)more : 0;
        open = more > 0 && handle_all(c);
    }
    free(c);
    return open;
}

static void serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char first[FIRST_MAX]; /* all that an idle connection keeps */
    ssize_t n;
    while ((n = weft_read(fd, first, sizeof first)) > 0 && converse(fd, first, (size_t)n))
        ;
    weft_close(fd);
}

/* ---- the server ---------------------------------------------------------------------- */

static void on_signal(int sig)
{
    char byte = (char)sig;
    if (write(signal_pipe[1], &byte, 1) < 0)
        _exit(1);
}

static void await_signal(void *arg)
{
    char byte;
    (void)arg;
    weft_read(signal_pipe[0], &byte, 1);
    weft_close(listener);
}

static int server(void *arg)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof sa;
    (void)arg;
    if ((listener = weft_listen_tcp(NULL, port, 0)) < 0) {
        fprintf(stderr, "httpd: port %d: %s\n", port, strerror(-listener));
        return 1;
    }
    getsockname(listener, (struct sockaddr *)&sa, &len);
    port = ntohs(sa.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&sa)->sin6_port
                                          : ((struct sockaddr_in *)&sa)->sin_port);
    date = dates[1];
    if (weft_go(keep_date, NULL) != 0 || weft_go(await_signal, NULL) != 0)
        return 1;
    printf("listening on 127.0.0.1:%d\n", port);
    fflush(stdout);
    for (;;) {
        int fd = weft_accept(listener, NULL, NULL);
        if (fd == -ECANCELED)
            return 0;
        if (fd < 0) {
            weft_sleep(10000000); /* no descriptors left, say: others will close theirs */
        } else if (weft_go_with(&connection, serve, (void *)(intptr_t)fd) != 0) {
            weft_close(fd);
        }
    }
}

int main(int argc, char **argv)
{
    int opt;
    while ((opt = getopt(argc, argv, "cp:")) != -1) {
        if (opt == 'c') {
            connection.stack = WEFT_STACK_COPIED;
        } else if (opt == 'p') {
            port = atoi(optarg);
        } else {
            fprintf(stderr, "usage: httpd [-c] [-p port]\n");
            return 2;
        }
    }
    if (pipe(signal_pipe) != 0) {
        perror("httpd: pipe");
        return 1;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    int rc = weft_run(server, NULL);
    if (rc < 0)
        fprintf(stderr, "httpd: %s\n", strerror(-rc));
    return rc != 0;
}
