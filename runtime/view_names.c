/* SPDX-License-Identifier: MIT
 *
 * view_names.c: which coroutines run, and how many there are, by name.
 *
 * A small table of the monitor's. Coroutines without a name go by their function. Row 0 is for all
 * that have no row: once the table is full, a new name takes the row of one that has no coroutine any
 * more and ran least, whose time goes to row 0.
 */
#include "page.h"
#include "view.h"

static struct {
    uint32_t n, last;
    uint32_t hash[PAGE_NAMES]; /* of row, to compare first */
    uint64_t counting[PAGE_NAMES];
    PageName row[PAGE_NAMES];
} names;

_Static_assert(PAGE_NAME == NAME_MAX_LEN + 1, "a name fits");

void names_reset(void)
{
    memset(&names, 0, sizeof names);
    names.n = 1;
    memcpy(names.row[0].name, "(others)", sizeof "(others)");
}

/* Main's function is in the runtime; the user's is where it was "spawned". */
uint64_t names_function(const G *g)
{
    return (uint64_t)(g->flags & G_MAIN ? (uintptr_t)g->spawn_pc : (uintptr_t)g->fn);
}

static uint32_t hash_of(const char *name, uint64_t fn)
{
    uint32_t h = 2166136261u;
    for (; *name != '\0'; name++)
        h = (h ^ (uint8_t)*name) * 16777619u;
    return h ^ (uint32_t)(fn >> 4);
}

/* A row that nobody needs any more; 0: there is none. */
static uint32_t row_free(void)
{
    uint32_t best = 0;
    if (names.n < PAGE_NAMES)
        return names.n++;
    for (uint32_t i = 1; i < names.n; i++)
        if (names.row[i].alive == 0 && names.counting[i] == 0 &&
            (best == 0 || names.row[i].ns < names.row[best].ns))
            best = i;
    names.row[0].ns += names.row[best].ns * (best != 0);
    return best;
}

static uint32_t row_new(const char *name, uint64_t fn, uint32_t hash)
{
    uint32_t i = row_free();
    if (i == 0)
        return 0;
    names.row[i] = (PageName){.fn = fn};
    view_name(names.row[i].name, name);
    names.hash[i] = hash;
    names.counting[i] = 0;
    return i;
}

static bool row_is(uint32_t i, const char *name, uint64_t fn, uint32_t hash)
{
    return names.hash[i] == hash && names.row[i].fn == fn && strcmp(names.row[i].name, name) == 0;
}

static uint32_t row_of(const G *g)
{
    const char *name = name_of(g);
    uint64_t fn = *name != '\0' ? 0 : names_function(g);
    uint32_t hash = hash_of(name, fn);
    if (names.last != 0 && row_is(names.last, name, fn, hash)) /* neighbours are often alike */
        return names.last;
    for (uint32_t i = 1; i < names.n; i++)
        if (row_is(i, name, fn, hash))
            return names.last = i;
    return row_new(name, fn, hash);
}

void names_ran(const G *g, int64_t ns)
{
    names.row[row_of(g)].ns += (uint64_t)ns;
}

void names_count(const G *g)
{
    names.counting[row_of(g)]++;
}

void names_round(void)
{
    for (uint32_t i = 0; i < names.n; i++) {
        names.row[i].alive = names.counting[i];
        names.counting[i] = 0;
    }
}

uint32_t names_list(PageName *to, uint32_t max)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < names.n && n < max; i++)
        if (names.row[i].ns != 0 || names.row[i].alive != 0)
            to[n++] = names.row[i];
    return n;
}
