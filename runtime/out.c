/* SPDX-License-Identifier: MIT
 *
 * out.c: text for reports, by write(2) alone.
 *
 * Everything here may be called from a signal handler, on a small stack and
 * without memory. What does not fit a buffer is written out; what cannot be
 * written is dropped: a report never fails and never waits for ever.
 */
#include "report.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

void out_open(Out *o, int fd)
{
    o->fd = fd;
    o->n = 0;
}

void out_flush(Out *o)
{
    int e = errno;
    size_t done = 0;
    while (done < o->n) {
        ssize_t n = write(o->fd, o->buf + done, o->n - done);
        if (n > 0) {
            done += (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            struct pollfd p = {.fd = o->fd, .events = POLLOUT};
            if (poll(&p, 1, 1000) <= 0)
                break; /* nobody reads */
        } else if (n == 0 || errno != EINTR) {
            break;
        }
    }
    o->n = 0;
    errno = e;
}

static void out_char(Out *o, char c)
{
    if (o->n == sizeof(o->buf))
        out_flush(o);
    o->buf[o->n++] = c;
}

void out_str(Out *o, const char *s)
{
    while (*s != '\0')
        out_char(o, *s++);
}

void out_strn(Out *o, const char *s, size_t max)
{
    for (size_t i = 0; i < max && s[i] != '\0'; i++)
        out_char(o, (unsigned char)s[i] < ' ' || s[i] == 0x7f ? '?' : s[i]);
}

static void out_digits(Out *o, uint64_t v, unsigned base)
{
    char d[20];
    size_t i = sizeof(d);
    do {
        d[--i] = "0123456789abcdef"[v % base];
        v /= base;
    } while (v != 0);
    while (i < sizeof(d))
        out_char(o, d[i++]);
}

void out_dec(Out *o, uint64_t v)
{
    out_digits(o, v, 10);
}

void out_hex(Out *o, uint64_t v)
{
    out_str(o, "0x");
    out_digits(o, v, 16);
}
