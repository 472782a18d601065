/* SPDX-License-Identifier: MIT
 *
 * lua.c: Lua in coroutines under the storm. Each worker has a lua_State of its own
 * and runs scripts whose results are known: recursion, strings and patterns,
 * tables with garbage collection, sorting with a Lua comparison, errors and Lua's
 * own coroutines (both are longjmp inside), floating point, a C callback. */
#include "torture.h"

#include <lauxlib.h>
#include <lualib.h>

static int triple(lua_State *L)
{
    lua_pushinteger(L, 3 * luaL_checkinteger(L, 1));
    return 1;
}

static void *lua_begin(Torture *t)
{
    (void)t;
    lua_State *L = luaL_newstate();
    OK(L != NULL);
    luaL_openlibs(L);
    lua_register(L, "triple", triple);
    lua_pushinteger(L, ++torture_id);
    lua_setglobal(L, "me");
    return L;
}

static void lua_end(Torture *t, void *state)
{
    (void)t;
    lua_close(state);
}

/* What script returns must be what it says. */
static void script(lua_State *L, const char *text)
{
    int top = lua_gettop(L);
    if (luaL_dostring(L, text) != LUA_OK)
        die("script", lua_tostring(L, -1), __LINE__);
    if (!lua_toboolean(L, -1))
        die("wrong result", text, __LINE__);
    lua_settop(L, top);
}

static void compute(Torture *t, void *state)
{
    (void)t;
    script(state, "local function fib(n) if n < 2 then return n end return fib(n-1) + fib(n-2) end "
                  "return fib(18) == 2584");
    script(state, "local x, y = 0.5, 0 for i = 1, 3000 do x = 3.7 * x * (1 - x) y = y + x end "
                  "if first == nil then first = y end return y == first");
    script(state, "local s = 0 for i = 1, 2000 do s = s + triple(i) % me end "
                  "local w = 0 for i = 1, 2000 do w = w + (3 * i) % me end return s == w");
}

static void strings(Torture *t, void *state)
{
    (void)t;
    script(state,
           "local p = {} for i = 1, 200 do p[#p + 1] = string.format('%d:%5.2f;', i, i / 7) end "
           "local s, n, last = table.concat(p), 0, nil "
           "for a, b in s:gmatch('(%d+):%s*([%d.]+);') do n = n + 1 last = tonumber(a) "
           "assert(math.abs(tonumber(b) - a / 7) < 0.006) end return n == 200 and last == 200");
    script(state, "local s = ('ab' .. me):rep(50) return #s:gsub('b', 'cc') == #s + 50 and "
                  "s:reverse():reverse() == s and s:upper():lower() == s");
}

static void garbage(Torture *t, void *state)
{
    (void)t;
    script(state,
           "local all = {} for i = 1, 500 do all[i] = {i, tostring(i), {me}} end "
           "for i = 1, 500, 2 do all[i] = nil end collectgarbage('step', 20) "
           "local n = 0 for i, v in pairs(all) do assert(v[1] == i and v[2] == tostring(i) and "
           "v[3][1] == me) n = n + 1 end return n == 250");
    script(state,
           "local a = {} local x = me for i = 1, 300 do x = (x * 16807) % 2147483647 a[i] = x end "
           "table.sort(a, function(p, q) return p > q end) "
           "for i = 2, 300 do assert(a[i - 1] >= a[i]) end return true");
}

static void jumps(Torture *t, void *state)
{
    (void)t;
    script(state, "for i = 1, 50 do local ok, e = pcall(function() error({me, i}) end) "
                  "assert(not ok and e[1] == me and e[2] == i) end return true");
    script(
        state,
        "local co = coroutine.wrap(function() for i = 1, 100 do coroutine.yield(i * me) end end) "
        "for i = 1, 100 do assert(co() == i * me) end return true");
}

int main(void)
{
    Torture all[] = {
        {.name = "compute", .unit = compute, .begin = lua_begin, .end = lua_end, .workers = 4},
        {.name = "strings", .unit = strings, .begin = lua_begin, .end = lua_end, .workers = 4},
        {.name = "garbage", .unit = garbage, .begin = lua_begin, .end = lua_end, .workers = 4},
        {.name = "jumps", .unit = jumps, .begin = lua_begin, .end = lua_end, .workers = 4},
    };
    return torture(all, sizeof all / sizeof all[0]);
}
