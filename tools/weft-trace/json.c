/* SPDX-License-Identifier: MIT
 *
 * json.c: the trace as ui.perfetto.dev and chrome://tracing read it.
 *
 * Two processes of theirs: "processors" has a thread for each P, with what ran on it from when to when (X events, and
 * instants for preemptions and the like); "coroutines" has an asynchronous event for each coroutine's life, and within it
 * one for each thing it did: b and e, told apart by the coroutine's id, since a coroutine changes threads as it likes.
 */
#include "weft-trace.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { PROCESSORS = 1, COROUTINES = 2 };

typedef struct {
    Trace *t;
    FILE *out;
    bool first;
    bool failed;
    bool seen[NO_P];
} Json;

/* Its reference is ours. */
static void put(Json *j, json_t *event)
{
    fputs(j->first ? "\n" : ",\n", j->out);
    j->first = false;
    if (event == NULL || json_dumpf(event, j->out, JSON_COMPACT | JSON_PRESERVE_ORDER) != 0)
        j->failed = true;
    json_decref(event);
}

/* A name may be any bytes. */
static json_t *text(const char *s)
{
    json_t *v = json_string(s);
    if (v != NULL)
        return v;
    char plain[SYMBOL_SIZE];
    size_t n = 0;
    for (; s[n] != '\0' && n + 1 < sizeof plain; n++)
        plain[n] = (unsigned char)s[n] < 128 ? s[n] : '?';
    plain[n] = '\0';
    return json_string(plain);
}

static double us(const Json *j, int64_t when)
{
    return (double)(when - j->t->begin) / 1000;
}

static void name_it(Json *j, const char *what, int pid, int tid, const char *name)
{
    put(j, json_pack("{s:s, s:s, s:i, s:i, s:{s:s}}", "ph", "M", "name", what, "pid", pid, "tid",
                     tid, "args", "name", name));
}

static void see_p(Json *j, uint16_t p)
{
    char name[16];
    if (j->seen[p])
        return;
    j->seen[p] = true;
    snprintf(name, sizeof name, "P %u", p);
    name_it(j, "thread_name", PROCESSORS, p, name);
}

static void put_async(Json *j, const char *ph, const Coro *c, const char *name, int64_t when)
{
    char id[24];
    snprintf(id, sizeof id, "%llu", (unsigned long long)c->id);
    put(j, json_pack("{s:s, s:s, s:s, s:o, s:i, s:i, s:f}", "ph", ph, "cat", "coroutine", "id", id,
                     "name", text(name), "pid", COROUTINES, "tid", 0, "ts", us(j, when)));
}

static void on_born(void *arg, const Coro *c, int64_t when)
{
    Json *j = arg;
    put_async(j, "b", c, trace_called(j->t, c), when);
}

static void on_ended(void *arg, const Coro *c, int64_t when)
{
    Json *j = arg;
    put_async(j, "e", c, trace_called(j->t, c), when);
}

static void on_span(void *arg, const Span *s)
{
    Json *j = arg;
    const char *doing = trace_doing(j->t, s->state, s->why);
    put_async(j, "b", s->coro, doing, s->from);
    put_async(j, "e", s->coro, doing, s->to);
    if (s->state != RUNNING || s->p == NO_P)
        return;
    see_p(j, s->p);
    put(j, json_pack("{s:s, s:o, s:i, s:i, s:f, s:f, s:{s:I, s:o}}", "ph", "X", "name",
                     text(trace_called(j->t, s->coro)), "pid", PROCESSORS, "tid", (int)s->p, "ts",
                     us(j, s->from), "dur", us(j, s->to) - us(j, s->from), "args", "coroutine",
                     (json_int_t)s->coro->id, "created at",
                     text(trace_called(j->t, &(Coro){.site = s->coro->site}))));
}

static const char *instant(const TraceRecord *x)
{
    static const char *const how[] = {"preempt: flagged", "preempt: handed over", "preempt: moved"};
    switch (x->kind) {
    case TRACE_PREEMPT:
        return x->detail < 3 ? how[x->detail] : NULL;
    case TRACE_HANDOFF:
        return "hand-off";
    case TRACE_RETAKE:
        return x->detail ? "retaken (declared call)" : "retaken (blocked)";
    default:
        return NULL;
    }
}

static void on_event(void *arg, const TraceRecord *x)
{
    Json *j = arg;
    const char *name = instant(x);
    if (name == NULL || x->p == NO_P)
        return;
    see_p(j, x->p);
    put(j, json_pack("{s:s, s:s, s:s, s:i, s:i, s:f, s:{s:I, s:i}}", "ph", "i", "s", "t", "name",
                     name, "pid", PROCESSORS, "tid", (int)x->p, "ts", us(j, x->when), "args",
                     "coroutine", (json_int_t)x->id, "thread", (int)x->tid));
}

static bool write_all(Json *j)
{
    Sink sink = {.arg = j, .born = on_born, .span = on_span, .ended = on_ended, .event = on_event};
    fputs("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[", j->out);
    name_it(j, "process_name", PROCESSORS, 0, "processors");
    name_it(j, "process_name", COROUTINES, 0, "coroutines");
    replay(j->t, &sink);
    fprintf(j->out, "\n],\"otherData\":{\"lost\":%llu,\"whole\":%s}}\n",
            (unsigned long long)j->t->lost, j->t->whole ? "true" : "false");
    return !j->failed && !ferror(j->out);
}

bool json_write(Trace *t, const char *path)
{
    bool std = strcmp(path, "-") == 0;
    FILE *out = std ? stdout : fopen(path, "w");
    Json *j = calloc(1, sizeof *j);
    bool ok = false;
    if (out != NULL && j != NULL) {
        *j = (Json){.t = t, .out = out, .first = true};
        ok = write_all(j);
    }
    if (out != NULL && (std ? fflush(out) : fclose(out)) != 0)
        ok = false;
    if (!ok)
        fprintf(stderr, "weft-trace: %s: %s\n", path, strerror(errno != 0 ? errno : EIO));
    free(j);
    return ok;
}
