/* SPDX-License-Identifier: MIT
 *
 * screen.c: the terminal: drawn anew at each reading and each key. Every line is cut to the screen's width; what
 * there is no room for below is left out, processors before names. */
#include "top.h"

#include <curses.h>
#include <inttypes.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LEAST_LINES = 12, LEAST_COLUMNS = 50 };

static struct {
    int y; /* the next line */
    enum Sort sort;
    bool paused, help;
} screen;

static void put(int attributes, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(int attributes, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (screen.y >= LINES - 1)
        return;
    attrset(attributes);
    mvaddnstr(screen.y++, 0, line, COLS);
    attrset(A_NORMAL);
}

/* 12, 3.4k, 5.6M: five characters at most. */
static const char *short_number(double v, char *to)
{
    static const char unit[] = " kMGTPE";
    size_t i = 0;
    for (; v >= 9999.5 && i + 2 < sizeof unit; i++)
        v /= 1000;
    snprintf(to, 16, i == 0 ? "%.0f" : "%.0f%c", v, unit[i]);
    return to;
}

static const char *short_bytes(uint64_t bytes, char *to)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double v = (double)bytes;
    size_t i = 0;
    for (; v >= 1024 && i + 1 < sizeof unit / sizeof unit[0]; i++)
        v /= 1024;
    snprintf(to, 24, v < 10 && i > 0 ? "%.1f %s" : "%.0f %s", v, unit[i]);
    return to;
}

/* ---- the upper part: the program ---- */

static void draw_counts(const PageCount *c, uint32_t n, const char *before)
{
    char line[512];
    size_t len = (size_t)snprintf(line, sizeof line, "%s", before);
    const char *comma = "";
    for (uint32_t i = 0; i < n && len < sizeof line; i++)
        if (c[i].n != 0) {
            len += (size_t)snprintf(line + len, sizeof line - len, "%s%" PRIu64 " %s", comma,
                                    c[i].n, c[i].name);
            comma = ", ";
        }
    put(A_NORMAL, "%s%s", line, *comma == '\0' ? "none" : "");
}

static void draw_rates(const Report *r)
{
    static const char *const counters[] = {"switches", "spawned",         "exited",
                                           "steals",   "netpoll_wakeups", "timers_fired"};
    static const char *const titles[] = {"switches", "spawned", "exited",
                                         "steals",   "wakeups", "timers"};
    char line[256], number[16];
    size_t len = (size_t)snprintf(line, sizeof line, "Per second ");
    for (size_t i = 0; i < sizeof counters / sizeof counters[0]; i++)
        len += (size_t)snprintf(line + len, sizeof line - len, "%s%s %s", i > 0 ? ", " : "",
                                short_number(report_rate(r, counters[i]), number), titles[i]);
    put(A_NORMAL, "%s", line);
}

static void draw_memory(const Report *r)
{
    char a[24], b[24], n[16], m[16];
    put(A_NORMAL,
        "Stacks     %" PRIu64 " private in %s of addresses, %" PRIu64
        " windows, %s copied, %s saves/s, %s loads/s",
        report_value(r, "stacks_private"), short_bytes(report_value(r, "stack_private_bytes"), a),
        report_value(r, "windows"), short_bytes(report_value(r, "stack_copied_bytes"), b),
        short_number(report_rate(r, "window_saves"), n),
        short_number(report_rate(r, "window_loads"), m));
}

static void draw_program(const Report *r)
{
    const PageBody *b = &r->now;
    put(A_BOLD, "weft-top   process %d (%s), up %.1f s, every %.2f s%s", r->source->pid,
        r->source->command, (double)(b->refreshed - b->began) / 1e9, r->seconds,
        screen.paused ? "  [paused]" : "");
    draw_counts(b->state, b->nstates, "Coroutines ");
    draw_counts(b->wait, b->nwaits, "Waiting    ");
    put(A_NORMAL,
        "Threads    %" PRIu64 ", %" PRIu64 " idle, %" PRIu64 " spinning, %" PRIu64 " held, %" PRIu64
        " blocked; %" PRIu64 " of %" PRIu64 " processors idle",
        report_value(r, "threads"), report_value(r, "threads_idle"),
        report_value(r, "threads_spinning"), report_value(r, "threads_held"),
        report_value(r, "threads_blocked"), report_value(r, "procs_idle"),
        report_value(r, "procs"));
    draw_rates(r);
    put(A_NORMAL,
        "Preempted  %" PRIu64 " handed over, %" PRIu64 " moved, %" PRIu64
        " flagged; taken in calls: %" PRIu64 " declared, %" PRIu64 " not",
        report_value(r, "preempt_handed"), report_value(r, "preempt_moved"),
        report_value(r, "preempt_flagged"), report_value(r, "retaken_declared"),
        report_value(r, "retaken_undeclared"));
    draw_memory(r);
    put(A_NORMAL, "%s", "");
}

/* ---- the tables ---- */

static double proc_rate(const Report *r, uint32_t i)
{
    const PageProc *p = &r->now.proc[i];
    uint64_t before = !r->first && i < r->before.nprocs ? r->before.proc[i].switches : 0;
    return r->seconds > 0 && p->switches >= before ? (double)(p->switches - before) / r->seconds
                                                   : 0;
}

static void draw_proc(const Report *r, uint32_t i)
{
    const PageProc *p = &r->now.proc[i];
    char label[80], who[128] = "", number[16], lasts[24] = "";
    if (p->coroutine != 0) {
        report_label(r, p->name, p->fn, label, sizeof label);
        snprintf(who, sizeof who, "#%" PRIu64 " %s", p->coroutine, label);
    }
    if (p->runs != PAGE_IDLE)
        snprintf(lasts, sizeof lasts, "%.1f", (double)(r->now.refreshed - p->since) / 1e9);
    put(A_NORMAL, "%4u%c %-10s %6u %6u %8s %7s  %s", p->id, p->lent ? '+' : ' ', report_runs(p),
        p->queue, p->timers, short_number(proc_rate(r, i), number), lasts, who);
}

/* A third of what is left, at least three, unless all fit anyway. */
static void draw_procs(const Report *r)
{
    int room = LINES - 1 - screen.y - 3, third = room / 3 > 3 ? room / 3 : 3;
    uint32_t shown = 0, all = 0;
    put(A_REVERSE, "%5s %-10s %6s %6s %8s %7s  %-*s", "P", "RUNS", "QUEUE", "TIMERS", "SWITCH/S",
        "FOR", COLS > 60 ? COLS - 50 : 10, "COROUTINE");
    for (uint32_t i = 0; i < r->now.nprocs; i++) {
        if (r->now.proc[i].lent && r->now.proc[i].runs == PAGE_IDLE)
            continue;
        if (all++ < (uint32_t)third) {
            draw_proc(r, i);
            shown++;
        }
    }
    if (shown < all)
        put(A_DIM, "      and %u more", all - shown);
    put(A_NORMAL, "%s", "");
}

static void draw_names(Report *r)
{
    static const char *const sorted[] = {"time", "count", "name"};
    report_sort(r, screen.sort);
    put(A_REVERSE, "%7s %10s %9s  NAME (by %s)%*s", "TIME%", "SECONDS", "ALIVE",
        sorted[screen.sort], COLS > 60 ? COLS - 46 : 10, "");
    for (uint32_t i = 0; i < r->now.nnames; i++)
        put(A_NORMAL, "%7.1f %10.2f %9" PRIu64 "  %s", (double)r->name[i].ns * r->share,
            (double)r->name[i].total / 1e9, r->name[i].alive, r->name[i].label);
}

static void draw_help(void)
{
    static const char *const text[] = {
        "weft-top: keys",
        "",
        "  t  sort names by time on a processor",
        "  c  by the number of coroutines alive",
        "  n  by name",
        "  space  pause, and go on",
        "  h  this text, and back",
        "  q  quit",
        "",
        "TIME% is of the time that processors ran coroutines, by samples.",
        "A P with + is lent beyond the number of processors.",
        "What each line says: weft-top(1).",
    };
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++)
        put(i == 0 ? A_BOLD : A_NORMAL, "%s", text[i]);
}

static void draw(Report *r)
{
    erase();
    screen.y = 0;
    if (LINES < LEAST_LINES || COLS < LEAST_COLUMNS) {
        mvprintw(0, 0, "terminal too small");
        if (LINES > 1)
            mvprintw(1, 0, "%dx%d needed", LEAST_COLUMNS, LEAST_LINES);
    } else if (screen.help) {
        draw_help();
    } else {
        draw_program(r);
        draw_procs(r);
        draw_names(r);
    }
    if (LINES >= LEAST_LINES)
        mvaddnstr(LINES - 1, 0, "t time  c count  n name  space pause  h help  q quit", COLS);
    refresh();
}

/* ---- keys ---- */

/* False: quit. */
static bool key(int c)
{
    switch (c) {
    case 'q':
    case 'Q':
        return false;
    case 't':
        screen.sort = SORT_TIME;
        break;
    case 'c':
        screen.sort = SORT_COUNT;
        break;
    case 'n':
        screen.sort = SORT_NAME;
        break;
    case ' ':
        screen.paused = !screen.paused;
        break;
    case 'h':
    case '?':
        screen.help = !screen.help;
        break;
    }
    return true; /* others, and KEY_RESIZE: draw again */
}

static int64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Until the next reading is due: keys. False: quit. */
static bool serve_keys(Report *r, int64_t due)
{
    for (;;) {
        draw(r);
        int64_t left = due - clock_ms();
        timeout(left > 0 ? (int)left : 0);
        int c = getch();
        if (c == ERR)
            return true;
        if (!key(c))
            return false;
    }
}

int screen_run(Source *s, double delay)
{
    static Report r;
    report_begin(&r, s);
    enum SourceState state = report_next(&r, s);
    if (state != SOURCE_OK) {
        source_say(s, state);
        return 1;
    }
    setlocale(LC_CTYPE, "");
    SCREEN *terminal = newterm(NULL, stdout, stdin);
    if (terminal == NULL) {
        fprintf(stderr, "weft-top: this is no terminal that can be drawn on: try -b\n");
        return 1;
    }
    cbreak();
    noecho();
    keypad(stdscr, TRUE);
    curs_set(0);
    while (serve_keys(&r, clock_ms() + (int64_t)(delay * 1000))) {
        if (!screen.paused && (state = report_next(&r, s)) != SOURCE_OK)
            break;
    }
    endwin();
    delscreen(terminal);
    if (state != SOURCE_OK)
        source_say(s, state);
    return state == SOURCE_OK || state == SOURCE_ENDED ? 0 : 1;
}
