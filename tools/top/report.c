/* SPDX-License-Identifier: MIT
 *
 * report.c: what two readings say: rates, shares, the names in order.
 */
#include "top.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void report_begin(Report *r, const Source *s)
{
    memset(r, 0, sizeof *r);
    r->source = s;
    r->first = true;
}

/* The one that ran before by that name, or NULL. */
static const PageName *name_before(const Report *r, const PageName *x)
{
    for (uint32_t i = 0; !r->first && i < r->before.nnames; i++)
        if (r->before.name[i].fn == x->fn && strcmp(r->before.name[i].name, x->name) == 0)
            return &r->before.name[i];
    return NULL;
}

static void work_out_names(Report *r)
{
    for (uint32_t i = 0; i < r->now.nnames; i++) {
        const PageName *x = &r->now.name[i], *old = name_before(r, x);
        NameLine *to = &r->name[i];
        to->total = x->ns;
        to->alive = x->alive;
        to->ns = old != NULL && old->ns <= x->ns ? x->ns - old->ns : x->ns;
        report_label(r, x->name, x->fn, to->label, sizeof to->label);
    }
}

enum SourceState report_next(Report *r, Source *s)
{
    PageBody b;
    enum SourceState state = source_read(s, &b);
    if (state != SOURCE_OK)
        return state;
    if (r->now.refreshed != 0) {
        r->before = r->now;
        r->first = false;
    }
    r->now = b;
    int64_t from = r->first ? b.began : r->before.refreshed;
    uint64_t sampled = b.sampled - (r->first ? 0 : r->before.sampled);
    r->seconds = (double)(b.refreshed - from) / 1e9;
    r->share = sampled != 0 ? 100.0 / (double)sampled : 0;
    work_out_names(r);
    return state;
}

static int by_time(const void *a, const void *b)
{
    const NameLine *x = a, *y = b;
    if (x->ns != y->ns)
        return x->ns < y->ns ? 1 : -1;
    return (x->alive < y->alive) - (x->alive > y->alive);
}

static int by_count(const void *a, const void *b)
{
    const NameLine *x = a, *y = b;
    if (x->alive != y->alive)
        return x->alive < y->alive ? 1 : -1;
    return (x->ns < y->ns) - (x->ns > y->ns);
}

static int by_name(const void *a, const void *b)
{
    const NameLine *x = a, *y = b;
    return strcmp(x->label, y->label);
}

void report_sort(Report *r, enum Sort by)
{
    static int (*const order[])(const void *, const void *) = {
        [SORT_TIME] = by_time, [SORT_COUNT] = by_count, [SORT_NAME] = by_name};
    qsort(r->name, r->now.nnames, sizeof r->name[0], order[by]);
}

static uint64_t value_in(const PageBody *b, const char *counter)
{
    for (uint32_t i = 0; i < b->ncounters; i++)
        if (strcmp(b->counter[i].name, counter) == 0)
            return b->counter[i].value;
    return 0;
}

uint64_t report_value(const Report *r, const char *counter)
{
    return value_in(&r->now, counter);
}

double report_rate(const Report *r, const char *counter)
{
    uint64_t now = value_in(&r->now, counter),
             before = r->first ? 0 : value_in(&r->before, counter);
    return r->seconds > 0 && now >= before ? (double)(now - before) / r->seconds : 0;
}

const char *report_runs(const PageProc *p)
{
    static const char *const runs[] = {"idle", "running", "scheduling", "syscall", "blocked"};
    return p->runs < sizeof runs / sizeof runs[0] ? runs[p->runs] : "?";
}

void report_label(const Report *r, const char *name, uint64_t fn, char *to, size_t size)
{
    if (*name != '\0')
        snprintf(to, size, "%s", name);
    else
        symbol_name(r->source->pid, fn, to, size);
}
