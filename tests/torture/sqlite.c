/* SPDX-License-Identifier: MIT
 *
 * sqlite.c: SQLite in coroutines under the storm. Connections in memory and on
 * files, one each; one file that several write. Sums are compared with what was put
 * in, transactions are rolled back, and integrity_check has the last word.
 *
 * sqlite3_step() holds recursive pthread mutexes: what a moved coroutine would break. */
#include "torture.h"

#include <sqlite3.h>

typedef struct {
    sqlite3 *db;
    int id;
    int64_t sum, rows; /* what must be in it */
    uint32_t seed;
    char path[64]; /* or "" */
} Base;

static char dir[] = "/tmp/weft-torture.XXXXXX";
static _Atomic int64_t shared_sum;

static uint32_t next(uint32_t *s)
{
    *s = *s * 1664525u + 1013904223u;
    return *s >> 8;
}

static void execute(Base *b, const char *sql)
{
    char *why = NULL;
    int rc = sqlite3_exec(b->db, sql, NULL, NULL, &why);
    if (rc != SQLITE_OK)
        die(sql, why != NULL ? why : "?", __LINE__);
}

static int64_t query(Base *b, const char *sql)
{
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(b->db, sql, -1, &st, NULL) != SQLITE_OK ||
        sqlite3_step(st) != SQLITE_ROW)
        die(sql, sqlite3_errmsg(b->db), __LINE__);
    int64_t v = sqlite3_column_int64(st, 0);
    OK(sqlite3_finalize(st) == SQLITE_OK);
    return v;
}

static void integrity(Base *b)
{
    sqlite3_stmt *st = NULL;
    OK(sqlite3_prepare_v2(b->db, "PRAGMA integrity_check", -1, &st, NULL) == SQLITE_OK);
    OK(sqlite3_step(st) == SQLITE_ROW);
    const char *said = (const char *)sqlite3_column_text(st, 0);
    if (strcmp(said, "ok") != 0)
        die("integrity_check", said, __LINE__);
    OK(sqlite3_finalize(st) == SQLITE_OK);
}

static Base *base_open(const char *path)
{
    Base *b = calloc(1, sizeof *b);
    OK(b != NULL);
    b->id = ++torture_id;
    b->seed = (uint32_t)b->id;
    snprintf(b->path, sizeof b->path, "%s", path);
    if (sqlite3_open(path[0] != '\0' ? path : ":memory:", &b->db) != SQLITE_OK)
        die("sqlite3_open", sqlite3_errmsg(b->db), __LINE__);
    sqlite3_busy_timeout(b->db, 60000);
    execute(b, "PRAGMA synchronous = OFF");
    execute(b, "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, k TEXT, v INTEGER)");
    execute(b, "CREATE INDEX IF NOT EXISTS i ON t (k)");
    return b;
}

static void *memory_begin(Torture *t)
{
    (void)t;
    return base_open("");
}

static void *file_begin(Torture *t)
{
    char path[64];
    (void)t;
    snprintf(path, sizeof path, "%s/%d.db", dir, ++torture_id);
    unlink(path); /* of the storm before */
    return base_open(path);
}

/* n rows in one transaction; what they add to the sum. */
static int64_t insert(Base *b, int n)
{
    sqlite3_stmt *st = NULL;
    int64_t sum = 0;
    char key[32];
    OK(sqlite3_prepare_v2(b->db, "INSERT INTO t (k, v) VALUES (?, ?)", -1, &st, NULL) == SQLITE_OK);
    for (int i = 0; i < n; i++) {
        int64_t v = next(&b->seed);
        int len = snprintf(key, sizeof key, "key %u", (unsigned)(v % 997));
        OK(sqlite3_bind_text(st, 1, key, len, SQLITE_TRANSIENT) == SQLITE_OK);
        OK(sqlite3_bind_int64(st, 2, v) == SQLITE_OK);
        OK(sqlite3_step(st) == SQLITE_DONE);
        OK(sqlite3_reset(st) == SQLITE_OK);
        sum += v;
    }
    OK(sqlite3_finalize(st) == SQLITE_OK);
    return sum;
}

static void transactions(Torture *t, void *state)
{
    Base *b = state;
    (void)t;
    execute(b, "BEGIN");
    b->sum += insert(b, 40);
    b->rows += 40;
    execute(b, "COMMIT");
    execute(b, "BEGIN");
    (void)insert(b, 20);
    execute(b, "ROLLBACK");
    OK(query(b, "SELECT count(*) FROM t") == b->rows);
    OK(query(b, "SELECT sum(v) FROM t") == b->sum);
    OK(query(b, "SELECT count(*) FROM (SELECT k FROM t GROUP BY k ORDER BY k DESC)") <= 997);
    OK(query(b, "SELECT count(*) FROM t a JOIN t b USING (id) WHERE a.v = b.v") == b->rows);
    if (b->rows > 2000) {
        integrity(b);
        execute(b, "DELETE FROM t");
        b->rows = b->sum = 0;
    }
}

static void base_end(Torture *t, void *state)
{
    Base *b = state;
    (void)t;
    integrity(b);
    OK(sqlite3_close(b->db) == SQLITE_OK);
    if (b->path[0] != '\0')
        unlink(b->path);
    free(b);
}

/* One file, many writers, who wait for each other in SQLite's busy handler. */
static void *shared_begin(Torture *t)
{
    char path[64];
    (void)t;
    snprintf(path, sizeof path, "%s/shared.db", dir);
    return base_open(path);
}

static void share(Torture *t, void *state)
{
    Base *b = state;
    (void)t;
    execute(b, "BEGIN IMMEDIATE");
    shared_sum += insert(b, 5); /* nobody else is in here */
    int64_t found = query(b, "SELECT sum(v) FROM t");
    OK(found == shared_sum);
    execute(b, "COMMIT");
}

static void shared_end(Torture *t, void *state)
{
    Base *b = state;
    (void)t;
    integrity(b);
    OK(sqlite3_close(b->db) == SQLITE_OK);
    free(b);
}

int main(void)
{
    Torture all[] = {
        {.name = "memory",
         .unit = transactions,
         .begin = memory_begin,
         .end = base_end,
         .workers = 6},
        {.name = "files", .unit = transactions, .begin = file_begin, .end = base_end, .workers = 4},
        {.name = "one file", .unit = share, .begin = shared_begin, .end = shared_end, .workers = 3},
    };
    char path[64];
    if (mkdtemp(dir) == NULL)
        die("mkdtemp", dir, __LINE__);
    int rc = torture(all, sizeof all / sizeof all[0]);
    snprintf(path, sizeof path, "%s/shared.db", dir);
    unlink(path);
    rmdir(dir);
    return rc;
}
